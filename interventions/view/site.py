"""All rows of a folder with the addresses of their files: what the server gives, and what a bundle holds."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

from patchboard.view.find import SWEEP, Entry, Place, places
from patchboard.view.rows import REPORT, Row, row_of
from patchboard.view.sweeps import Sweep, sweep_of

TYPES = {
    ".html": "text/html; charset=utf-8", ".json": "application/json", ".yaml": "text/yaml; charset=utf-8",
    ".png": "image/png", ".parquet": "application/vnd.apache.parquet", ".safetensors": "application/octet-stream",
}  # fmt: skip
"""Ending -> type of what is given of a run's folder; nothing else is, and of pages the report alone."""

_FRESH = 0.3
"""Seconds for which a look at the folder serves: a page's requests come together."""


@dataclass(frozen=True)
class Shown:
    """A row with its address and its files. at: address of the folder, ``runs/…``; empty where nothing of it is given.
    files: name -> bytes. comparable: whether it has effects to lay over another run's."""

    row: Row
    at: str
    path: Path
    files: Mapping[str, int]
    comparable: bool = False

    def as_json(self) -> dict[str, Any]:
        """For the page. ``in``: the folder that it lies in."""
        files = [{"name": name, "bytes": size} for name, size in self.files.items()]
        parent, _, leaf = self.row.folder.rpartition("/")
        more = {"at": self.at, "in": parent, "leaf": leaf, "files": files, "report": REPORT in self.files}
        return {**asdict(self.row), **more, "comparable": self.comparable}


@dataclass
class Site:
    """The runs under a folder. Rows are read again where a file of theirs has changed."""

    root: Path
    _known: dict[Path, tuple[Mapping[str, Entry], Row]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _looked: tuple[float, list[Shown]] = (0.0, [])

    def look(self) -> list[Shown]:
        """The rows as they are now."""
        with self._lock:
            if time.monotonic() - self._looked[0] > _FRESH or not self._looked[1]:
                self._looked = time.monotonic(), self._rows()
            return self._looked[1]

    def file(self, address: str) -> Path | None:
        """The file at an address, None where none is given there; a plain file that lies in the folder."""
        folder, _, name = address.rpartition("/")
        for shown in self.look():
            if shown.at == folder and name in shown.files:
                file = shown.path / name
                inside = file.resolve().is_relative_to(self.root.resolve())
                return file if inside and file.is_file() and not file.is_symlink() else None
        return None

    def _rows(self) -> list[Shown]:
        found = places(self.root)
        sweeps = {place.path: sweep_of(place) for place in found if SWEEP in place.files}
        shown = [self._shown(place, sweeps) for place in found]
        paths = {place.path for place in found}
        for folder, sweep in sweeps.items():
            there = {path.name for path in paths if path.parent == folder}
            shown += [Shown(row, "", folder, {}) for row in sweep.without_folder(there)]
        self._known = {path: kept for path, kept in self._known.items() if path in paths}
        return shown

    def _shown(self, place: Place, sweeps: Mapping[Path, Sweep]) -> Shown:
        row = sweeps[place.path].row if place.path in sweeps else self._row(place)
        if place.path.parent in sweeps:
            row = sweeps[place.path.parent].told(row, place.path.name)
        if row.status == "wrong":
            return Shown(row, "", place.path, {})
        files = {name: entry.size for name, entry in place.files.items() if is_given(name)}
        at = address_of(place.relative or (place.path.name,))
        return Shown(row, at, place.path, files, bool(row.effects) and "curves.parquet" in files)

    def _row(self, place: Place) -> Row:
        known = self._known.get(place.path)
        if known is not None and known[0] == place.files:
            return known[1]
        row = row_of(place)
        if row.status in ("finished", "wrong"):  # others change without a file of theirs: a process ends, time goes on
            self._known[place.path] = place.files, row
        return row


def is_given(name: str) -> bool:
    """Whether a file of a run's folder is given to whoever asks."""
    ending = PurePosixPath(name).suffix
    return not name.startswith(".") and ending in TYPES and (ending != ".html" or name == REPORT)


def address_of(relative: Iterable[str]) -> str:
    """``runs/a/b`` of a folder's place: letters that any host and any file system takes, different for different ones.

    >>> address_of(("sweep", "shots=4")), address_of(("a b",))
    ('runs/sweep/shots=4', 'runs/a_b-c8687a08')
    """
    return "/".join(("runs", *map(_safe, relative)))


def _safe(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9.,=_-]", "_", name)
    return name if plain == name else f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"
