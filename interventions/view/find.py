"""What lies under a folder: runs at any depth, sweeps, and folders that are neither, each looked at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from patchboard.store.integrity import FOLDERS, MANIFEST, MIRROR, SPEC

SWEEP = "sweep.json"
BUNDLE = "bundle.json"
"""Marks a folder that ``bundle`` wrote: its runs are copies."""

MOST_FOLDERS = 20_000
"""That are looked into; who points at a whole disk by mistake is told, and does not wait."""

_NOT_ENTERED = {*FOLDERS, MIRROR, "logs"}
_OF_RUNS = {MANIFEST, SPEC, "summary.json"}


@dataclass(frozen=True)
class Entry:
    """A file: when it was changed (nanoseconds), and its bytes."""

    changed: int
    size: int


@dataclass(frozen=True)
class Place:
    """A folder with a row of its own. relative: below the one that is shown. files: its plain files by name; links are
    left out. wrong: why it is no run; empty where it may be one."""

    path: Path
    relative: tuple[str, ...]
    files: Mapping[str, Entry]
    wrong: str = ""


def places(root: Path) -> list[Place]:
    """Runs, sweeps and experiments under the folder (or it itself), then the rest. Links are not followed.

    Of folders in which no run is, the topmost stands for all below it.
    """
    left = [MOST_FOLDERS]
    found = list(_under(root, (), left))
    if left[0] <= 0:
        what = f"more than {MOST_FOLDERS:,} folders lie here, and not all were looked into; name one further down"
        found.append(Place(root, (), {}, what))
    return found


def _under(folder: Path, relative: tuple[str, ...], left: list[int]) -> Iterator[Place]:
    left[0] -= 1
    if left[0] < 0:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        files = {entry.name: entry for entry in entries if entry.is_file(follow_symlinks=False)}
        if BUNDLE in files:
            return
    except OSError as error:
        if folder.is_dir():  # else it went away meanwhile
            yield Place(folder, relative, {}, f"cannot be read ({error.strerror})")
        return
    own = Place(folder, relative, dict(_told(files)))
    is_row = SWEEP in files or MANIFEST in files or len(_OF_RUNS & files.keys()) > 1
    below = []
    for entry in entries:
        if entry.name.startswith(".") or (is_row and entry.name in _NOT_ENTERED):
            continue
        if entry.is_symlink() and entry.is_dir():
            below.append(Place(Path(entry.path), (*relative, entry.name), {}, "is a link, and links are not followed"))
        elif entry.is_dir():
            below += _under(Path(entry.path), (*relative, entry.name), left)
    if is_row:
        yield own
    elif relative and any(_is_content(name) for name in files) and all(place.wrong for place in below):
        yield Place(folder, relative, {}, "holds no run")
        return
    yield from below


def _is_content(name: str) -> bool:
    """Whether a file makes a folder one that people keep things in; a sweep that runs has logs and a lock so far."""
    return not name.startswith(".") and not name.endswith(".log")


def _told(files: Mapping[str, os.DirEntry[str]]) -> Iterator[tuple[str, Entry]]:
    """Without those that have gone meanwhile, as the half-written files of a run do."""
    for name, entry in files.items():
        with suppress(OSError):
            stat = entry.stat(follow_symlinks=False)
            yield name, Entry(stat.st_mtime_ns, stat.st_size)
