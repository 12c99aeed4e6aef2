"""A run folder on disk: written part by part, resumable after a kill, refused to any other run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from interventions.errors import PatchboardError, RunFolderError
from interventions.store.schema import VERSION

MANIFEST = "manifest.json"
_FILES = (
    "spec.yaml", "plan.json", MANIFEST, "outcomes.parquet", "effects.parquet", "curves.parquet", "decodability.parquet",
    "prompts.parquet", "summary.json", "vectors.safetensors", "report.html", ".lock",
)  # fmt: skip
_FOLDERS = ("parts", "figures")


def atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make the file under another name, then put it in place at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # the ending stays: some writers go by it
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(unfinished)
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


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
        atomically(self.path / name, lambda path: table.write_parquet(path, metadata={"patchboard": str(VERSION)}))

    def read_table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.path / name)

    def has(self, name: str) -> bool:
        return (self.path / name).exists()

    def drop_parts(self) -> None:
        shutil.rmtree(self.path / "parts", ignore_errors=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder, empty where there is none. Raises RunFolderError if unreadable."""
    file = path / MANIFEST
    if not file.exists():
        return {}
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            str(file), f"cannot be read ({error})", "delete the folder or give another --out"
        ) from None


@contextmanager
def open_run(path: Path, digest: str, fresh: bool = False) -> Iterator[RunFolder]:
    """The run's folder, made if needed, held against other processes while open.

    Raises RunFolderError where the folder belongs to a run of another digest, holds other things
    than a run, cannot be written, or is in use.
    """
    if path.exists() and not path.is_dir():
        raise RunFolderError(str(path), "is a file, not a folder", "give another --out")
    known = read_manifest(path)
    if not known and path.is_dir() and any(entry.name != ".lock" for entry in path.iterdir()):
        raise RunFolderError(str(path), "holds other things than a run", "give another --out")
    if known.get("digest", digest) != digest and not fresh:
        raise RunFolderError(
            str(path),
            f"holds a run of another spec (digest {known['digest'][:8]}, this one is {digest[:8]})",
            "give another --out, or --fresh to start over",
        )
    if known.get("version", VERSION) != VERSION and not fresh:
        raise RunFolderError(
            str(path), f"was written in format {known['version']}, this is {VERSION}", "use --fresh to start over"
        )
    made = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise RunFolderError(str(path), "is in use by another process", "wait for it, or give another --out") from None
    except OSError as error:
        raise RunFolderError(str(path), f"cannot be written ({error.strerror})", "give another --out") from None
    try:
        if fresh:
            _clear(path)
        folder = RunFolder(path, digest)
        if not folder.manifest:
            folder.write_json(MANIFEST, {"digest": digest, "version": VERSION, "status": "running"})
        yield folder
    except PatchboardError:
        # bad input found on the way (a layer that the model lacks) leaves nothing behind; work done stays
        if made and not (path / "parts").exists() and not list(path.glob("*vectors.safetensors")):
            _clear(path)
        raise
    finally:
        lock.release()
        (path / ".lock").unlink(missing_ok=True)
        if made and not any(path.iterdir()):
            path.rmdir()


def _clear(path: Path) -> None:
    """Remove what a run writes, and nothing else that may stand in the folder."""
    for name in _FILES:
        if name != ".lock":
            (path / name).unlink(missing_ok=True)
    for vectors in path.glob("m*-vectors.safetensors"):  # one a model where models are swept
        vectors.unlink()
    for name in _FOLDERS:
        shutil.rmtree(path / name, ignore_errors=True)
