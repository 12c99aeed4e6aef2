"""A progress bar on standard error, only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Gives ``tick(phase, done, of)``; one bar a phase."""
    if not shown:
        yield lambda phase, done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bars: dict[str, object] = {}
    columns = TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:

        def tick(phase: str, done: int, of: int) -> None:
            if phase not in bars:
                bars[phase] = display.add_task(phase, total=of)
            display.update(bars[phase], completed=done)  # type: ignore[arg-type]

        yield tick
