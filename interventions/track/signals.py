"""SIGTERM as an exception, so that an open W&B run is closed with its state and its log is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_TERMINATED = 128 + signal.SIGTERM


class Terminated(SystemExit):
    """SIGTERM came. What it leaves behind resumes, as after Ctrl-C."""


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within, SIGTERM raises Terminated with the exit status a shell gives it (143); a second one kills at once.

    By default Python dies of SIGTERM on the spot, and W&B's file of an offline run can be left with nothing in it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers can be set in the main thread only
        return

    def raise_once(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated(EXIT_TERMINATED)

    before = signal.signal(signal.SIGTERM, raise_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
