"""Which files of a folder are a run's own, and what a kill, a full disk or a careless copy leaves of them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil
from safetensors import safe_open

from patchboard.store import EXAMINED
from patchboard.store.schema import OPTIONAL_TABLES
from patchboard.store.version import STAMP

MANIFEST = "manifest.json"
SPEC = "spec.yaml"
LOCK = ".lock"
PROGRESS = "progress.json"
FILES = (
    SPEC, "plan.json", MANIFEST, "outcomes.parquet", "effects.parquet", "curves.parquet", "decodability.parquet",
    "prompts.parquet", *(table.file for table in OPTIONAL_TABLES.values()), "summary.json", "vectors.safetensors",
    "report.html", PROGRESS,
)  # fmt: skip
FOLDERS = ("parts", "figures")
MIRROR = "wandb"
"""W&B's local files, which are there before the run is, and outlast --fresh: neither the run's own nor strange."""

MIRROR_RECORD = "mirror.json"

_OF_EXPERIMENTS = (".parquet", ".safetensors")
_VECTORS = re.compile(r"m\d+-vectors\.safetensors")  # one a model where models are swept
_UNFINISHED = re.compile(r"\.(?P<stem>.+)\.(?P<process>\d+)(?P<ending>\.[a-z0-9]+)")


def unfinished(path: Path) -> Path:
    """Under which name this process writes ``path`` before putting it in place."""
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")  # the ending stays: some writers go by it


def is_unfinished(name: str, kinds: Container[str] | None = ()) -> bool:
    """Whether a name is one of ``unfinished`` that stands for a file of a run, or for any of these kinds.

    kinds: endings; None for all.
    """
    parts = _UNFINISHED.fullmatch(name)
    if parts is None:
        return False
    return kinds is None or parts["ending"] in kinds or _is_file_of_a_run(parts["stem"] + parts["ending"])


def _kinds(names: Container[str]) -> Container[str]:
    """What may be half written at the top of a folder of these names: experiments call their tables as they like."""
    return _OF_EXPERIMENTS if SPEC in names or MANIFEST in names else ()


def _is_file_of_a_run(name: str) -> bool:
    return name in FILES or _VECTORS.fullmatch(name) is not None


def contents(path: Path) -> tuple[list[str], list[str]]:
    """(files and folders that a run writes, names of anything else), without locks, W&B's and unfinished files."""
    names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    kinds = _kinds(names)
    names = [name for name in names if name not in (LOCK, MIRROR) and not is_unfinished(name, kinds)]
    own = [name for name in names if name in FOLDERS or _is_file_of_a_run(name) or _is_experiments(path / name)]
    return own, [name for name in names if name not in own]


def _is_experiments(place: Path) -> bool:
    """Whether it is a table with our stamp, or the folder of an experiment: each has tables of its own names."""
    if place.is_dir():
        return _is_examined(place.name) and (place / MANIFEST).is_file()
    if place.suffix != ".parquet":
        return False
    try:
        with open(place, "rb") as opened:  # by name polars would take "seed[1]" for a pattern
            return STAMP in pl.read_parquet_metadata(opened)
    except (OSError, pl.exceptions.PolarsError):
        return False


def _is_examined(name: str) -> bool:
    """Whether a folder inside a run's is called as an experiment's."""
    return name == EXAMINED or name.startswith(f"{EXAMINED}-")


def remove_unfinished(path: Path) -> None:
    """Delete what killed processes left half written. Only for who holds the folder's lock."""
    names = [entry.name for entry in path.iterdir()]
    for folder, kinds in ((path, _kinds(names)), *((path / name, None) for name in FOLDERS)):
        for entry in folder.iterdir() if folder.is_dir() else ():
            if is_unfinished(entry.name, kinds):
                entry.unlink()
    remove_left(path / MIRROR / MIRROR_RECORD)


def remove_left(*files: Path) -> None:
    """Delete what processes that are gone left half written of these files; safe without a lock."""
    for file in files:
        for entry in file.parent.iterdir() if file.parent.is_dir() else ():
            parts = _UNFINISHED.fullmatch(entry.name)
            if parts and parts["stem"] + parts["ending"] == file.name and not psutil.pid_exists(int(parts["process"])):
                entry.unlink(missing_ok=True)


def remove_damaged_parts(path: Path) -> None:
    """Delete parts that cannot be read whole, so that they count as missing and are computed again."""
    for pattern in ("*.parquet", "*.npz", "*.json", "*.safetensors"):
        for part in (path / "parts").glob(pattern):
            if not _is_whole(part):
                part.unlink()


def _is_whole(part: Path) -> bool:
    """Reads all of it: parts are small, and damage may lie anywhere."""
    try:
        if part.suffix == ".json":
            read_json(part)
        elif part.suffix == ".npz":
            with np.load(part) as stored:
                for name in stored.files:
                    stored[name]
        elif part.suffix == ".safetensors":
            with safe_open(str(part), framework="numpy") as stored:
                for name in stored.keys():  # noqa: SIM118  # it is no mapping
                    stored.get_tensor(name)
        else:
            pl.read_parquet(part, glob=False)
    except (Exception, pl.exceptions.PanicException):  # by kind of damage: zip's, numpy's, polars' own errors
        return False
    return True


def remove_run(path: Path) -> None:
    """Delete what a run writes (but the lock), and nothing else that may stand in the folder."""
    for name in contents(path)[0]:
        if name in FOLDERS:
            shutil.rmtree(path / name, ignore_errors=True)
        elif _is_examined(name):
            remove_run(path / name)
            if not any((path / name).iterdir()):
                (path / name).rmdir()
        else:
            (path / name).unlink(missing_ok=True)


def is_sound(file: Path) -> bool:
    """Whether a file of a finished run is there and not cut short; its ends are read, not all of it."""
    try:
        if file.suffix == ".json":
            return isinstance(read_json(file), dict)
        with open(file, "rb") as opened:
            if file.suffix == ".parquet":
                pl.read_parquet_schema(opened)
            elif file.suffix == ".html":
                return opened.read().rstrip().endswith(b"</html>")
        if file.suffix == ".safetensors":
            with safe_open(str(file), framework="numpy"):
                pass
    except (Exception, pl.exceptions.PanicException):
        return False
    return True


def read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
