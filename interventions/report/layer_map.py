"""One panel of a sweep over heads or positions: a heat map of layer by these, with dots, outlines, numbers on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from patchboard.report.drawing import colour_bar, dot, ink, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.numbers import place_label
from patchboard.report.style import WIDTH, unit_of

MARGIN = 0.75
"""Inches of a panel's width that its labels take."""

_WRITTEN = (0.42, 0.22)
"""Inches a square must be wide and high for a number."""
_LOWEST, _HIGHEST = 0.05, 0.26
"""Inches: the least and greatest height of a square."""
_LOW, _TALL = 1.3, 3.2
"""Inches: the least height of a panel, which must hold the colours' label, and the height that many heads share."""


@dataclass(frozen=True)
class Panel:
    title: str
    rows: pl.DataFrame
    outlined: list[tuple[str, Any]]
    """(layers, head or position) of the intervention's largest effects, in its own panel and its controls'."""


@dataclass(frozen=True)
class Grid:
    """What all panels of an intervention share."""

    columns: list[str]  # edited blocks, as the column `layers` has them
    places: list[Any]  # heads or positions, from below
    across: int
    limit: float  # of the colours, in the metric's unit
    field: Literal["head", "position"] = "head"

    @property
    def square(self) -> tuple[float, float]:
        """Inches wide and high."""
        height = max(min(_HIGHEST, max(_LOWEST, _TALL / len(self.places))), _LOW / len(self.places))
        return (WIDTH / self.across - MARGIN) / len(self.columns), height


def layer_map(axes: Axes, part: Panel, grid: Grid) -> AxesImage:
    """Draw one panel; returns its image, for the colour bar."""
    values = np.full((len(grid.places), len(grid.columns)), np.nan)
    sure: list[tuple[int, int]] = []  # (column, row)
    for row in part.rows.iter_rows(named=True):
        column, place = grid.columns.index(row["layers"]), grid.places.index(row[grid.field])
        values[place, column] = row["effect"]
        if row["ci_low"] > 0 or row["ci_high"] < 0:
            sure.append((column, place))
    image = axes.imshow(
        values, cmap="PuOr_r", norm=Normalize(-grid.limit, grid.limit), aspect="auto", origin="lower",
        interpolation="nearest",
    )  # fmt: skip
    axes.set_facecolor("#cfcfcf")  # shows through where nothing was measured
    axes.spines[:].set_visible(False)
    wide, high = grid.square
    # a number takes the middle of its square, and the dot moves below it
    outlined = [(grid.columns.index(layers), grid.places.index(place)) for layers, place in part.outlined]
    written = outlined if wide >= _WRITTEN[0] and high >= _WRITTEN[1] else []
    inks = ink(image, [values[place, column] for column, place in written]) if written else []
    for (column, place), colour in zip(written, inks, strict=True):
        text = _short(values[place, column])
        axes.text(column, place + 0.03, text, ha="center", va="center", color=colour)
    below = [(column, place - (0.36 if (column, place) in written else 0)) for column, place in sure]
    dot(
        axes,
        image,
        below,
        [values[place, column] for column, place in sure],
        size=min(2.3, 72 * min(wide, high) * 0.45),
    )
    for column, place in outlined:
        axes.add_patch(Rectangle((column - 0.5, place - 0.5), 1, 1, fill=False, linewidth=1.0, clip_on=False))
    _ticks(axes, grid)
    return image


def stacked(parts: Sequence[Panel], grid: Grid, label: str) -> Figure:
    """Panels one above the other, as small effects have long numbers. label: of the colours."""
    figure, axes = panels([part.title for part in parts], grid.across, 0.55 + grid.square[1] * len(grid.places), True)
    images = [layer_map(axis, part, grid) for axis, part in zip(axes, parts, strict=True)]
    for axis in axes:
        axis.set_ylabel(grid.field)
    axes[-1].set_xlabel("layer")
    colour_bar(figure, images[0], label)
    return figure


def map_numbers(parts: Sequence[Panel], metric: str, unit: str | None = None) -> pl.DataFrame:
    """What the panels show. unit: that of the metric, where it is not one of the library's."""
    said = {"metric": metric, "unit": unit or unit_of(metric)}
    return joined([tidy(part.rows, "effect", panel=part.title, **said) for part in parts])


def _short(value: float) -> str:
    """Two digits, as a square holds them: ``+0.50``, ``−5.0``, ``−12``; nothing for NaN."""
    if not np.isfinite(value):
        return ""
    return f"{value:+.0f}".replace("-", "−") if abs(value) >= 9.95 else f"{value:+#.2g}".replace("-", "−", 1)


def _ticks(axes: Axes, grid: Grid) -> None:
    wide, high = grid.square
    names = [place_label(layers) for layers in grid.columns]
    step = -(-max(len(name) * 0.08 + 0.08 for name in names) // wide)
    if axes.xaxis.get_visible():
        axes.set_xticks(range(0, len(names), int(step)), names[:: int(step)])
    step = int(-(-0.14 // high))
    if axes.yaxis.get_visible():
        axes.set_yticks(range(0, len(grid.places), step), [str(place) for place in grid.places[::step]])
