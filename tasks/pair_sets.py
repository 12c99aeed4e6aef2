"""Shipped sets of tasks: a folder each, whose files are tasks over the same inputs, so that they can be confused.

``data/pairs/README.md`` says where each fact comes from. The lists are part of the code: one that changes answers
changes results, and so the results version.
"""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from patchboard.errors import TaskError
from patchboard.registry import suggest

FOLDER = Path(str(importlib.resources.files("patchboard.tasks"))) / "data" / "pairs"


def set_names() -> list[str]:
    return sorted(folder.name for folder in FOLDER.iterdir() if folder.is_dir())


def folder_of(name: str) -> Path:
    """The folder of a set's files. Raises TaskError for a set that there is not."""
    if name not in set_names():
        raise TaskError("tasks.set", f"no set '{name}' is shipped", suggest(name, set_names()))
    return FOLDER / name
