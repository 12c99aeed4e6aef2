"""What figures are drawn of: lines with a band, heat maps with numbers on them, bars in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from patchboard.measure.floors import floors_in
from patchboard.report.drawing import ink
from patchboard.report.style import CD_COLOUR, CYCLE, POINTS, line_of

MARKERS = "osD^vP*X"

Look = dict[str, Any]
"""Of a line: keyword arguments of matplotlib's ``plot``."""


def look_of(number: int) -> Look:
    """Colour and marker of the n-th of several lines, from 0; they repeat after eight."""
    return {"color": CYCLE[number % len(CYCLE)], "marker": MARKERS[number % len(MARKERS)]}


ACCURACY_LOOK: Look = {"color": CYCLE[0], "linestyle": "-", "marker": "o"}
CD_LOOK: Look = {"color": CD_COLOUR, "linestyle": "--", "marker": "s"}
TWIN_LOOK: Look = {"color": CYCLE[7], "linestyle": "-.", "linewidth": 1}
SHUFFLED_LOOK: Look = {"color": "#A9A9A9", "linestyle": "-", "linewidth": 0.8}
FLOOR_LOOKS = {"twin": ("an untrained twin", TWIN_LOOK), "shuffled": ("labels shuffled", SHUFFLED_LOOK)}
"""Column of what CD is held against -> its name in a legend, and its look."""


def effect_look(number: int, control: str = "") -> Look:
    """Of the n-th intervention's effect beside accuracy and CD, or of a control's, which has one look for all."""
    if control:
        line = line_of(control)
        return {"color": line.colour, "marker": line.marker, "linestyle": line.dashes}
    colours, markers = (CYCLE[1], *CYCLE[3:]), "^DvP*X"
    return {"color": colours[number % len(colours)], "marker": markers[number % len(markers)], "linestyle": "-"}


def key_of(labels: Iterable[str], linestyle: Literal["-", ""] = "-", markersize: float = 4) -> list[Line2D]:
    """Handles of a legend of ``look_of`` lines."""
    return [
        Line2D([], [], label=label, linestyle=linestyle, markersize=markersize, **look_of(number))
        for number, label in enumerate(labels)
    ]


def line_with_band(
    axes: Axes, table: pl.DataFrame, names: tuple[str, str], bounds: str = "ci", alpha: float = 0.15, **line: Any
) -> Line2D:
    """A line of the table's rows, in the band of their intervals.

    names: of the columns of x and y. bounds: of the band, columns ``{bounds}_low`` and ``{bounds}_high``. line: of
    matplotlib's ``plot``, its colour as ``color``.
    """
    x, y = names
    low, high = table[f"{bounds}_low"], table[f"{bounds}_high"]
    axes.fill_between(table[x], low, high, color=line["color"], alpha=alpha, linewidth=0)
    (drawn,) = axes.plot(table[x], table[y], **line)
    return drawn


def level_line(axes: Axes, height: float, **line: Any) -> Line2D:
    """A line across the panel at ``height`` of the data: matplotlib's ``axhline``, which works out the limits of all
    panels that share an axis each time. line: of ``plot``."""
    (drawn,) = axes.plot([0, 1], [height, height], transform=axes.get_yaxis_transform(), **line)
    return drawn


def floor_lines(axes: Axes, cd: pl.DataFrame, bands: bool = True) -> None:
    """Thin lines over ``layer`` of what CD is held against, in the bands of their intervals."""
    for name in floors_in(cd):
        _, look = FLOOR_LOOKS[name]
        if bands:
            line_with_band(axes, cd, ("layer", name), bounds=name, alpha=0.12, **look)
        else:
            axes.plot(cd["layer"], cd[name], **look)


def floor_key(floors: Iterable[str], whose: str = "") -> list[Line2D]:
    """Handles of a legend of ``floor_lines``. whose: before each name."""
    return [Line2D([], [], label=whose + FLOOR_LOOKS[name][0], **FLOOR_LOOKS[name][1]) for name in floors]


def grid_of(
    table: pl.DataFrame, rows: Sequence[Any], columns: Sequence[Any], names: tuple[str, str, str]
) -> np.ndarray:
    """[row, column] values, NaN where the table has none. names: of the table's columns of row, column and value."""
    grid = np.full((len(rows), len(columns)), np.nan)
    for row, column, value in table.select(names).iter_rows():
        grid[rows.index(row), columns.index(column)] = value
    return grid


def heat_map(
    axes: Axes, grid: np.ndarray, limits: tuple[float, float], colours: str = "viridis", upwards: bool = False,
    text_of: Callable[[float], str] | None = None, size: float = POINTS,
) -> AxesImage:  # fmt: skip
    """Draw ``grid`` [row, column], its first row on top unless ``upwards``, with ``text_of`` every finite value on it.

    limits: of the colours. size: of the text, in points. Ticks are the caller's.
    """
    low, high = limits
    image = axes.imshow(
        grid, cmap=colours, vmin=low, vmax=high, aspect="auto", origin="lower" if upwards else "upper"
    )  # fmt: skip
    axes.spines[:].set_visible(False)
    if text_of is not None:
        for (row, column), value, colour in zip(
            np.ndindex(grid.shape), grid.ravel(), ink(image, grid.ravel()), strict=True
        ):
            if np.isfinite(value):
                axes.text(column, row, text_of(value), ha="center", va="center", fontsize=size, color=colour)
    return image


def every_tick(axis: Any, labels: Sequence[object], most: int, **text: Any) -> None:
    """Ticks of a heat map's axis (``axes.xaxis``), at most so many of them. text: of matplotlib's ``set_ticks``."""
    step = -(-len(labels) // most)
    axis.set_ticks(range(0, len(labels), step), [str(label) for label in labels[::step]], **text)


def grouped_bars(
    axes: Axes, rows: Iterable[Mapping[str, Any]], groups: Sequence[str], colours: Mapping[str, str],
    names: tuple[str, str, str], width: float = 0.8, line: float = 0.9,
) -> None:  # fmt: skip
    """A bar a row, beside the others of its group, its interval in black, its ``sd``, where it has one, in grey.

    colours: of each kind of bar, in their order. names: of a row's group, kind and value; the interval is ``ci_low``,
    ``ci_high``. width: of all bars of a group. line: of the interval, in points.
    """
    of_group, of_kind, of_value = names
    kinds, each = list(colours), width / len(colours)
    for row in rows:
        x = groups.index(row[of_group]) + (kinds.index(row[of_kind]) - (len(kinds) - 1) / 2) * each
        axes.bar(x, row[of_value], each * 0.9, color=colours[row[of_kind]])
        if row.get("sd") is not None:
            axes.vlines(x, row[of_value] - row["sd"], row[of_value] + row["sd"], color="#999999", linewidth=3)
        axes.vlines(x, row["ci_low"], row["ci_high"], color="black", linewidth=line)


def bar_key(
    figure: Figure, colours: Mapping[str, str], sd: str = "", columns: int | None = None, line: float = 1
) -> None:
    """The legend of ``grouped_bars`` above the figure. sd: what the grey lines spread over; empty without them."""
    handles: list[Any] = [Patch(color=colour, label=name) for name, colour in colours.items()]
    handles += [Line2D([], [], color="#999999", linewidth=4, label=sd)] if sd else []
    handles += [Line2D([], [], color="black", linewidth=line, label="interval")]
    columns = columns or len(handles)
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, columnspacing=1, handlelength=1.2)
