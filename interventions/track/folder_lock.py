"""Who else is at work in a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from patchboard.store.integrity import LOCK

_PAUSE = 0.5
"""Seconds between two looks."""


def in_use(folder: Path) -> bool:
    """Whether another process is running in the folder."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except Timeout:
        return True


def wait_while_in_use(folder: Path, say: Callable[[str], None]) -> None:
    """Come back when no other process is running in the folder: agents may be given the same point."""
    if in_use(folder):
        say(f"{folder} is being computed by another process: waiting for its result")
        while in_use(folder):
            time.sleep(_PAUSE)
