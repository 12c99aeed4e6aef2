"""How far an unfinished run is and why it stopped, told in its folder: for whoever looks at it from outside."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from patchboard.errors import PatchboardError
from patchboard.store.folder import atomically
from patchboard.store.integrity import PROGRESS, read_json

_PAUSE = 1.0
"""Seconds between two writings."""

_SILENCE = 600.0
"""Seconds after which a process of another machine, which cannot be asked for, counts as gone."""

_BORN = 2.0
"""Seconds by which two readings of when a process began may differ: it is told from the boot, whose time drifts."""

INTERRUPTED = "interrupted"
"""``stopped`` of a run that was ended by Ctrl-C or SIGTERM."""


@dataclass(frozen=True)
class Told:
    """Of a run that is computed now, or was. phase, done, of: as ``execution.progress.Tick`` has them, "" before the
    first one. begun: when, in seconds since 1970. process, born, machine: who computes, and since when that process is.
    stopped: the line that it ended with; empty while it runs."""

    begun: float
    process: int
    born: float
    machine: str
    phase: str = ""
    done: int = 0
    of: int = 0
    stopped: str = ""

    def is_running(self, written: float) -> bool:
        """Whether the process is at work. written: when this was written, in seconds since 1970."""
        if self.stopped:
            return False
        if self.machine != platform.node():
            return time.time() - written < _SILENCE
        try:
            process = psutil.Process(self.process)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - self.born) < _BORN
        except psutil.Error:
            return False


@contextmanager
def told_in(folder: Path) -> Iterator[Callable[[str, int, int], None]]:
    """Gives ``tick(phase, done, of)``, which writes ``progress.json``. The file is gone once the context is left
    without an error, and else says why it was left."""
    file = folder / PROGRESS
    last = Told(time.time(), os.getpid(), psutil.Process().create_time(), platform.node())
    _write(file, last)
    written = time.monotonic()

    def tick(phase: str, done: int, of: int) -> None:
        nonlocal last, written
        begins = phase != last.phase
        last = replace(last, phase=phase, done=done, of=of)
        if begins or time.monotonic() - written > _PAUSE:
            _write(file, last)
            written = time.monotonic()

    try:
        yield tick
    except BaseException as error:
        _write(file, replace(last, stopped=_line(error)))
        raise
    file.unlink(missing_ok=True)


def read_told(folder: Path) -> tuple[Told, float] | None:
    """What a run's folder tells, and when that was written, in seconds since 1970; None where it tells nothing."""
    file = folder / PROGRESS
    try:
        return Told(**read_json(file)), file.stat().st_mtime
    except (OSError, ValueError, TypeError):
        return None


def _write(file: Path, told: Told) -> None:
    with suppress(OSError):  # of a full disk the results tell, or the error that is on its way
        atomically(file, lambda path: path.write_text(json.dumps(asdict(told)) + "\n", encoding="utf-8"))


def _line(error: BaseException) -> str:
    """What a command line says of it."""
    if isinstance(error, PatchboardError):
        return error.one_line()
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return INTERRUPTED
    return " ".join(f"{type(error).__name__}: {error}".split())
