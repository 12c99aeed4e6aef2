"""Where the panels of a figure stand: margins from the labels that are there, each of which is measured once.

matplotlib's constrained layout measures every artist of every panel twice, which took two thirds of drawing a figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis, YAxis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import LayoutEngine
from matplotlib.legend import Legend
from matplotlib.markers import TICKRIGHT
from matplotlib.text import Text

from patchboard.report.style import POINTS

BAR = "colour bar"
"""Label of the axes of a bar of colours, which stands to the right of all panels."""

LINE = 1.25 * POINTS / 72
"""Inches that a line of text takes."""

_EDGE, _GAP = 0.06, 0.1
"""Inches: free at the edges, and between panels."""
_TICK = 0.09
"""Inches from an axis to its labels."""
_RIGHT = "right axis"
"""Id of the texts of an axis on the right."""
_BAR_WIDTH, _BAR_HEIGHT = 0.1, 2.4


def right_axis(axes: Axes, ticks: Mapping[str, float], name: str, colour: str) -> None:
    """An axis on the right of a panel, for what is drawn in it by a scale of its own. ticks: label -> share of the
    height. A second set of matplotlib's axes would cost as much as the panel."""
    look: dict[str, Any] = {"color": colour, "transform": axes.transAxes, "clip_on": False}
    axes.plot([1, 1], [0, 1], linewidth=0.8, **look)
    heights = list(ticks.values())
    axes.plot([1] * len(heights), heights, linestyle="", marker=TICKRIGHT, markersize=3, markeredgewidth=0.8, **look)
    offset = {"xytext": (_TICK * 72, 0), "textcoords": "offset points"}
    for label, height in ticks.items():
        axes.annotate(label, (1, height), xycoords="axes fraction", color=colour, va="center", gid=_RIGHT, **offset)
    away = _TICK + 0.06 * max(map(len, ticks)) + 0.06
    axes.annotate(
        name, (1, 0.5), (away * 72, 0), xycoords="axes fraction", textcoords="offset points", rotation=90, color=colour,
        va="center", gid=f"{_RIGHT} name",
    )  # fmt: skip


class Margins(LayoutEngine):
    """Panels of one size in the grid that ``Figure.subplots`` made; what belongs to the figure stands around them."""

    _adjust_compatible = False
    _colorbar_gridspec = False

    def execute(self, fig: Figure) -> None:
        width, height = fig.get_size_inches()
        measured = RendererAgg(1, 1, fig.dpi)
        cells: dict[tuple[int, int], list[Axes]] = {}
        for axes in fig.axes:
            spec = axes.get_subplotspec()
            if spec is not None:
                cells.setdefault((spec.rowspan.start, spec.colspan.start), []).append(axes)
        specs = [axes.get_subplotspec() for own in cells.values() for axes in own[:1]]
        rows, columns = specs[0].get_gridspec().get_geometry()  # type: ignore[union-attr]  # they were filtered for it
        pads = {place: _pads(own, measured) for place, own in cells.items()}
        left, right = ([max((p[side] for (_, c), p in pads.items() if c == column), default=0.0)
                        for column in range(columns)] for side in (0, 1))  # fmt: skip
        below, above = ([max((p[side] for (r, _), p in pads.items() if r == row), default=0.0)
                         for row in range(rows)] for side in (2, 3))  # fmt: skip
        west, east, south, north = _around(fig, measured)
        wide = (width - west - east - sum(left) - sum(right) - _GAP * (columns - 1)) / columns
        high = (height - south - north - sum(below) - sum(above) - _GAP * (rows - 1)) / rows
        wide, high = max(wide, 0.1), max(high, 0.1)
        for (row, column), own in cells.items():
            x = west + sum(left[: column + 1]) + sum(right[:column]) + (wide + _GAP) * column
            y = height - north - sum(above[: row + 1]) - sum(below[:row]) - (high + _GAP) * row - high
            for axes in own:
                axes.set_position((x / width, y / height, wide / width, high / height))
        bottom, top = south + below[-1], height - north - above[0]
        _place_bars(fig, width - east + _GAP, (bottom, top))


def _pads(own: Iterable[Axes], measured: RendererAgg) -> tuple[float, float, float, float]:
    """Inches left, right, below and above that the labels of the axes at one place take."""
    left = right = below = above = 0.0
    for axes in own:
        vertical, horizontal = _labels(axes.yaxis, measured), _labels(axes.xaxis, measured)
        left, right = max(left, vertical[0]), max(right, vertical[1])
        below, above = max(below, horizontal[0]), max(above, horizontal[1])
        for child in axes.child_axes:  # a second axis above
            above = max(above, _labels(child.xaxis, measured)[1])
        if any(text.get_gid() == _RIGHT for text in axes.texts):
            right = max(right, _TICK + _largest((t for t in axes.texts if t.get_gid() == _RIGHT), "y", measured) + LINE)
        title = axes.get_title(loc="left")
        above = max(above, (title.count("\n") + 1) * LINE + 0.05 if title else 0.03)
    return left, right, below, above


def _labels(axis: Axis, measured: RendererAgg) -> tuple[float, float]:
    """Inches that ticks with their labels and the axis' name take, before the panel (left, below) and behind it."""
    if not (axis.get_visible() and axis.axes.axison):
        return 0.0, 0.0
    shown: Any = axis.get_tick_params("major")
    name = "y" if isinstance(axis, YAxis) else "x"
    first, second = ("left", "right") if name == "y" else ("bottom", "top")
    sides = [0.0, 0.0]
    for number, side in enumerate((first, second)):
        if shown.get(f"label{side}"):
            sides[number] = _TICK + _largest(axis.get_majorticklabels(), name, measured)
    if axis.get_label_text():
        number = 0 if axis.get_label_position() == first else 1
        sides[number] += LINE * (axis.get_label_text().count("\n") + 1) + 0.03
    return sides[0], sides[1]


def _largest(labels: Iterable[Text], name: str, measured: RendererAgg) -> float:
    """Inches of the widest label of a y axis, the highest of an x axis."""
    side = "width" if name == "y" else "height"
    seen = {(label.get_text(), label.get_rotation()): label for label in labels if label.get_text()}
    return max((getattr(one.get_window_extent(measured), side) for one in seen.values()), default=0) / measured.dpi


def _around(fig: Figure, measured: RendererAgg) -> tuple[float, float, float, float]:
    """Inches left, right, below and above that the figure's own names, legends and bars take."""
    west = _EDGE + (LINE + 0.02 if fig.get_supylabel() else 0)
    south = _EDGE + (LINE + 0.02 if fig.get_supxlabel() else 0)
    east = north = _EDGE
    if fig.get_supylabel():
        fig._supylabel.set_x(_EDGE / fig.get_figwidth())  # type: ignore[attr-defined]
    for legend in fig.legends:
        side = legend._outside_loc  # type: ignore[attr-defined]  # of "outside lower center": "lower"
        if side == "right":
            east += legend.get_window_extent(measured).width / measured.dpi + _GAP
        else:
            tall = _lines_of(legend) * 1.5 * POINTS / 72 + 0.06
            south, north = (south + tall, north) if side == "lower" else (south, north + tall)
    if fig.get_supxlabel():
        above = sum(_lines_of(each) * 1.5 * POINTS / 72 + 0.06 for each in fig.legends
                    if each._outside_loc == "lower")  # type: ignore[attr-defined]  # fmt: skip
        fig._supxlabel.set_y((_EDGE + above) / fig.get_figheight())  # type: ignore[attr-defined]
    if any(axes.get_label() == BAR for axes in fig.axes):
        widest = max(_labels(axes.yaxis, measured)[1] for axes in fig.axes if axes.get_label() == BAR)
        east += _GAP + _BAR_WIDTH + widest
    return west, max(east, 0.12), south, north  # half of the last tick's label


def _lines_of(legend: Legend) -> int:
    return -(-len(legend.get_texts()) // legend._ncols)  # type: ignore[attr-defined]


def _place_bars(fig: Figure, x: float, panels: tuple[float, float]) -> None:
    """Beside the panels, in the middle of their height, and no longer than a bar need be."""
    width, height = fig.get_size_inches()
    tall = min(panels[1] - panels[0], _BAR_HEIGHT)
    middle = sum(panels) / 2
    for axes in fig.axes:
        if axes.get_label() == BAR:
            axes.set_position((x / width, (middle - tall / 2) / height, _BAR_WIDTH / width, tall / height))
