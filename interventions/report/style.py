"""One look for all figures: the same colour, line and marker for the same thing everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from patchboard.metrics import METRICS
from patchboard.plan.controls import CONTROLS, Control

WIDTH = 7.5
"""Inches: a page of text with narrow margins; at 150 dots an inch, 1125 pixels."""

DPI = 150

CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D1F")
"""Okabe & Ito's palette, told apart with any colour vision (yellow left out: too pale for a line)."""

CD_COLOUR = "#6E6E6E"


@dataclass(frozen=True)
class Line:
    """How a curve is drawn; marker and dashes tell curves apart in grey print too."""

    colour: str
    dashes: Literal["-", "--", "-.", ":"]
    marker: str
    width: float = 1.2


_OWN = Line("#0072B2", "-", "o", 2.0)


def line_of(control: str) -> Line:
    """The line of a control, ``""`` for the intervention itself; of one that is not known here any control's."""
    if not control:
        return _OWN
    style = (CONTROLS.get(control, "controls") if control in CONTROLS else Control).line
    return Line(style.colour, style.dashes, style.marker)


def in_order(controls: Iterable[str]) -> list[str]:
    """The intervention itself first, then controls in a fixed order, then unknown ones by name."""
    known = ["", *CONTROLS.names()]
    return sorted(controls, key=lambda name: (known.index(name) if name in known else len(known), name))


def effect_label(metric: str) -> str:
    """``effect on logprob (nats)``."""
    return f"effect on {metric} ({METRICS.get(metric, 'metrics').unit})" if metric in METRICS else f"effect on {metric}"


RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw under the report's settings, and leave the caller's matplotlib as it was."""
    import matplotlib

    with matplotlib.rc_context(RC):  # type: ignore[arg-type]  # plain strings are its keys
        yield
