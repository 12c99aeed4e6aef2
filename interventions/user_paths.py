"""Paths as users write them, in specs and flags."""

from __future__ import annotations

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """The path with a ``~`` at its beginning made the home folder: in YAML and in ``--a=~/b`` no shell does that."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # ~name of a user that does not exist: then there is no such file, which its reader tells
        return Path(path)
