"""Progress bars: on standard error of a terminal, in a notebook under its cell."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Tick = Callable[[str, int, int], None]
"""Told (phase, done, of)."""

_PAUSE = 0.1
"""Seconds between two drawings in a notebook: each is a message to the browser."""


def in_notebook() -> bool:
    """Whether a cell of a notebook is being executed: then IPython is loaded, and a kernel is its shell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and shell.has_trait("kernel")


@contextmanager
def progress(shown: bool) -> Iterator[Tick]:
    """Gives ``tick(phase, done, of)``; one bar a phase, gone at the end."""
    if not shown:
        yield lambda phase, done, of: None
    elif in_notebook():
        with _in_cell() as tick:
            yield tick
    else:
        with _on_terminal() as tick:
            yield tick


@contextmanager
def _on_terminal() -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    bars: dict[str, TaskID] = {}
    columns = TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:

        def tick(phase: str, done: int, of: int) -> None:
            if phase not in bars:
                bars[phase] = display.add_task(phase, total=of)
            display.update(bars[phase], completed=done, total=of)

        yield tick


@contextmanager
def _in_cell() -> Iterator[Tick]:
    """Through IPython's own display: rich's bars need ipywidgets, and warn where they are not there."""
    from IPython.display import HTML, display  # pyright: ignore[reportMissingImports]

    handle = display(HTML(""), display_id=True)
    assert handle is not None  # as it is asked for
    bars: dict[str, tuple[int, int]] = {}
    drawn = 0.0

    def tick(phase: str, done: int, of: int) -> None:
        nonlocal drawn
        bars[phase] = done, of
        if done == of or time.monotonic() - drawn > _PAUSE:
            handle.update(HTML("".join(_bar(name, *counts) for name, counts in bars.items())))
            drawn = time.monotonic()

    try:
        yield tick
    finally:
        handle.update(HTML(""))


def _bar(phase: str, done: int, of: int) -> str:
    return f'<div>{html.escape(phase)} <progress value="{done}" max="{of}"></progress> {done}/{of}</div>'
