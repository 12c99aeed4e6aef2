"""One look for all figures: the same colour, line and marker for the same thing everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from patchboard.metrics import METRICS
from patchboard.plan.controls import CONTROLS, Control

WIDTH = 6.75
"""Inches: both columns of a paper, so that text keeps its size there; at 150 dots an inch, 1012 pixels."""

COLUMN = 3.25
"""Inches: one column of a paper."""

POINTS = 8
"""Size of all text in figures."""

DPI = 150

CYCLE = ("#0069AA", "#CC5200", "#009E73", "#D285B1", "#E69F00", "#7CC4F2", "#000000", "#6B4E12")
"""Okabe & Ito's palette (yellow left out: too pale for a line), some of it darker or lighter, so that any two differ in
lightness as well: told apart with any colour vision, and in grey."""

CD_COLOUR = "#6E6E6E"


@dataclass(frozen=True)
class Line:
    """How a curve is drawn; marker and dashes tell curves apart in grey print too."""

    colour: str
    dashes: Literal["-", "--", "-.", ":"]
    marker: str
    width: float = 1.2


_OWN = Line("#0069AA", "-", "o", 2.0)


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


def unit_of(metric: str) -> str | None:
    """``nats``; None of a metric that is not known here."""
    return METRICS.get(metric, "metrics").unit if metric in METRICS else None


def effect_label(metric: str) -> str:
    """``effect on logprob (nats)``."""
    unit = unit_of(metric)
    return f"effect on {metric} ({unit})" if unit else f"effect on {metric}"


RC: dict[str, Any] = {
    **dict.fromkeys(
        ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize",
         "legend.title_fontsize", "figure.titlesize", "figure.labelsize"),
        POINTS,
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.titley": 1.0,  # where it is put anyhow; unset, every title is measured against its panel's ticks
    "axes.linewidth": 0.8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "svg.fonttype": "none",  # text stays text
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "svg.hashsalt": "patchboard",  # names inside the file are the same in every draw
}  # fmt: skip


@contextmanager
def styled() -> Iterator[None]:
    """Draw under the report's settings, and leave the caller's matplotlib as it was."""
    import matplotlib

    with matplotlib.rc_context(RC):  # type: ignore[arg-type]  # plain strings are its keys
        yield
