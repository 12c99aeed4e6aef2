"""A run folder on disk: written part by part, resumable after a kill, refused to any other run."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from filelock import FileLock, Timeout

from patchboard.errors import PatchboardError, RunFolderError
from patchboard.store.identity import FRESH, Identity, difference
from patchboard.store.integrity import (
    LOCK,
    MANIFEST,
    SPEC,
    contents,
    is_sound,
    read_json,
    remove_damaged_parts,
    remove_run,
    remove_unfinished,
    unfinished,
)
from patchboard.store.tables import growing_table
from patchboard.store.version import STAMP, VERSION


@contextmanager
def in_place_at_once(path: Path) -> Iterator[Path]:
    """Gives another name under which to write the file; it is put in place when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = unfinished(path)
    try:
        yield half
        with open(half, "rb") as file:
            os.fsync(file.fileno())
        os.replace(half, path)
    finally:
        half.unlink(missing_ok=True)


def atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make the file under another name, then put it in place at once."""
    with in_place_at_once(path) as half:
        write(half)


class RunFolder:
    """The files of one run. Open it through ``open_run``."""

    def __init__(self, path: Path, digest: str):
        self.path, self.digest = path, digest

    @property
    def manifest(self) -> dict[str, Any]:
        return read_manifest(self.path)

    @property
    def finished(self) -> bool:
        return self.manifest.get("status") == "finished"

    def write_text(self, name: str, text: str) -> None:
        atomically(self.path / name, lambda path: path.write_text(text, encoding="utf-8"))

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def update_manifest(self, **entries: Any) -> None:
        self.write_json(MANIFEST, {**self.manifest, **entries})

    def write_table(self, name: str, table: pl.DataFrame) -> None:
        atomically(self.path / name, lambda path: table.write_parquet(path, metadata={STAMP: str(VERSION)}))

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """An .npz file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # names of arrays are none of its flags'
        atomically(self.path / name, lambda path: path.write_bytes(buffer.getvalue()))

    @contextmanager
    def growing_table(self, name: str, schema: Mapping[str, pl.DataType]) -> Iterator[Callable[[pl.DataFrame], None]]:
        """Gives a function that appends a piece; the table is in place once the context is left without an error."""
        with in_place_at_once(self.path / name) as half, growing_table(half, schema) as append:
            yield append

    def read_table(self, name: str) -> pl.DataFrame:
        return self.scan_table(name).collect()

    def scan_table(self, name: str) -> pl.LazyFrame:
        return pl.scan_parquet(self.path / name, glob=False)  # a folder may be called "seed[1]"

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def unsound(self, names: Iterable[str]) -> list[str]:
        """Those of the files that are missing or cut short."""
        return [name for name in names if not is_sound(self.path / name)]

    def drop_parts(self) -> None:
        shutil.rmtree(self.path / "parts", ignore_errors=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder, empty where there is none. Raises RunFolderError if it is not a run's."""
    file = path / MANIFEST
    if not file.exists():
        return {}
    remedy = "use --fresh to start over, or give another --out" if _is_of_a_run(path) else "give another --out"
    try:
        manifest = read_json(file)
    except (OSError, ValueError) as error:
        what = f"cannot be read ({' '.join(str(error).split())})"
        raise RunFolderError(str(file), what, remedy) from None
    entries = manifest if isinstance(manifest, dict) else {}
    if not isinstance(entries.get("digest"), str) or not isinstance(entries.get("version"), int):
        raise RunFolderError(str(file), "is not the manifest of a run", remedy)
    return entries


def is_finished(path: Path) -> bool:
    """Whether a finished run is there. Raises RunFolderError if what is there is not a run's."""
    return read_manifest(path).get("status") == "finished"


def _is_of_a_run(path: Path) -> bool:
    """Whether a folder without a good manifest is a run's all the same, so that nothing but a run is lost with it."""
    own, strange = contents(path)
    return SPEC in own and not strange


def check_free(path: Path, digest: str, fresh: bool, identity: Identity | None = None) -> None:
    """Raises RunFolderError where the folder is not this run's to write in, or holds other numbers than this run's."""
    if path.exists() and not path.is_dir():
        raise RunFolderError(str(path), "is a file, not a folder", "give another --out")
    if fresh and _is_of_a_run(path):
        return
    known = read_manifest(path)
    if not known and any(contents(path)):
        if _is_of_a_run(path):
            what = f"holds a run without its {MANIFEST}"
            raise RunFolderError(str(path), what, "use --fresh to start over, or give another --out")
        raise RunFolderError(str(path), "holds other things than a run", "give another --out")
    if fresh:
        return
    if known.get("digest", digest) != digest:
        raise RunFolderError(
            str(path),
            f"holds a run of another spec (digest {known['digest'][:8]}, this one is {digest[:8]})",
            "give another --out, or --fresh to start over",
        )
    if known.get("version", VERSION) != VERSION:
        raise RunFolderError(
            str(path), f"was written in format {known['version']}, this is {VERSION}", "use --fresh to start over"
        )
    if known and identity is not None:
        _check_same_identity(path, known, identity)


def _check_same_identity(path: Path, manifest: Mapping[str, Any], identity: Identity) -> None:
    """Without a noted identity it is of an earlier version: what is finished stands, parts could be anything's."""
    noted = manifest.get("identity")
    if noted is None:
        if manifest.get("status") != "finished":
            raise RunFolderError(str(path), "was begun before runs noted what they are computed on", FRESH)
        return
    differing = difference(noted, identity)
    if differing:
        raise RunFolderError(str(path), *differing)


def missing_folders(path: Path) -> list[Path]:
    """The folder and those above it that are not there yet, innermost first."""
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, innermost first, up to one that holds something."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


@contextmanager
def open_run(path: Path, digest: str, fresh: bool = False, identity: Identity | None = None) -> Iterator[RunFolder]:
    """The run's folder, made if needed, held against other processes while open.

    Whoever holds it clears away what killed processes left half written, and parts that cannot be read.
    identity: noted in the manifest from the start; None for tables that an experiment makes of a run.
    Raises RunFolderError where the folder belongs to a run of another digest or identity, holds other things
    than a run, cannot be written, or is in use.
    """
    check_free(path, digest, fresh, identity)
    missing = missing_folders(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise RunFolderError(str(path), "is in use by another process", "wait for it, or give another --out") from None
    except OSError as error:
        raise RunFolderError(str(path), f"cannot be written ({error.strerror})", "give another --out") from None
    begun = False
    try:
        remove_unfinished(path)
        if fresh:
            remove_run(path)
        remove_damaged_parts(path)
        begun = (path / MANIFEST).exists()
        folder = RunFolder(path, digest)
        if not begun:
            noted = {} if identity is None else {"identity": identity.as_json()}
            folder.write_json(MANIFEST, {"digest": digest, "version": VERSION, "status": "running", **noted})
        yield folder
    except PatchboardError:
        # bad input found on the way (a layer that the model lacks) leaves nothing behind; work done stays
        if not begun and not (path / "parts").exists() and not list(path.glob("*vectors.safetensors")):
            remove_run(path)
        raise
    finally:
        # before it is given back: another process that then takes the old file's lock sees it has no name
        (path / LOCK).unlink(missing_ok=True)
        lock.release()
        remove_empty(missing)
