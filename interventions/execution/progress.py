"""How far a run is: the seconds of its phases, and what is done of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

Tick = Callable[[str, int, int], None]
"""Called with (phase, done, of), for a progress bar."""


class Progress:
    """Times phases, and reports the steps that are done of them. tick: where steps are reported to."""

    def __init__(self, tick: Tick):
        self._tick = tick
        self.others: Callable[[str], int] = lambda phase: 0
        """Steps of a phase that other processes have done of the same run."""
        self.seconds: dict[str, float] = {}
        """Phase -> seconds by the clock, over all the times that it was entered."""
        self.processor_seconds: dict[str, float] = {}
        """Phase -> seconds of the processors that the run's processes took: what others take on the machine is not in
        them."""

    @property
    def times(self) -> dict[str, dict[str, float]]:
        """What the manifest has of them."""
        return {"seconds": self.seconds, "processor_seconds": self.processor_seconds}

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        start, worked = time.perf_counter(), time.process_time()
        yield
        _add(self.seconds, phase, time.perf_counter() - start)
        _add(self.processor_seconds, phase, time.process_time() - worked)

    def counter(self, phase: str, total: int, shared: bool = False) -> Callable[[int], None]:
        """A function to call with how many more of ``total`` steps are done. shared: whether others do some of them."""
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            self._tick(phase, done + (self.others(phase) if shared else 0), total)

        return step

    def add_processor_seconds(self, others: Mapping[str, float]) -> None:
        """What other processes took for the same run, by phase."""
        for phase, seconds in others.items():
            _add(self.processor_seconds, phase, seconds)


def both(first: Tick, second: Tick) -> Tick:
    """Tells two."""

    def tick(phase: str, done: int, of: int) -> None:
        first(phase, done, of)
        second(phase, done, of)

    return tick


def _add(seconds: dict[str, float], phase: str, more: float) -> None:
    seconds[phase] = round(seconds.get(phase, 0.0) + more, 3)
