"""What a figure is to the page, and the grid of small panels that most figures are."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from patchboard.report.margins import BAR, LINE, Margins
from patchboard.report.panel_axes import PanelAxes
from patchboard.report.style import WIDTH

MOST_PANELS = 24
"""Panels of one figure; more are split into several figures, which a page can break between."""

MOST_COLUMNS = 4
"""Panels beside each other, at which a title of some words still fits."""

_METADATA: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""No dates: the same figure is the same file."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class Drawing:
    """A finished figure: its file name without ending, a title, how to read it, and the numbers that it shows.

    data: one row a number that is drawn, as ``drawn.tidy`` makes them; it becomes the CSV beside the figure.
    explored: the page's explorer shows the same, so that the page itself need not.
    """

    name: str
    title: str
    caption: str
    figure: Figure
    data: pl.DataFrame
    explored: bool = False

    def png(self) -> bytes:
        """The figure as a file's content, in the style that is current."""
        buffer = io.BytesIO()
        # savefig would draw everything twice; zlib's level 2 takes half the time of 6, and figures are no larger
        FigureCanvasAgg(self.figure).print_png(buffer, pil_kwargs={"compress_level": 2})
        return buffer.getvalue()

    def vector(self, format: str) -> bytes:
        """As ``png``, in one of ``formats.VECTOR``; equal bytes of equal figures."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format=format, metadata=_METADATA[format])
        return buffer.getvalue()


MOST_LINES = 3
"""Lines of a panel's title; what is longer (a swept template, say) stands whole in the page's tables."""


def single(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """A figure of one panel. height, width: inches of all of it."""
    figure = Figure(figsize=(width, height), layout=Margins())
    return figure, figure.add_subplot(axes_class=PanelAxes)


def panels(
    titles: Sequence[str], columns: int, height: float, share_y: bool, share_x: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of one panel for each title, ``height`` inches each, row by row; left-over places stay empty.

    Axes that panels share have ticks at the outermost panels alone.
    """
    count, rows = len(titles), math.ceil(len(titles) / columns)
    folded = [fold(title, columns) for title in titles]
    height += LINE * max((title.count("\n") for title in folded), default=0)
    figure = Figure(figsize=(WIDTH, height * rows + 0.55), layout=Margins())
    grid = figure.add_gridspec(rows, columns)
    made: list[Axes] = []
    for place, title in enumerate(folded):  # Figure.subplots would look through all ticks for those that are shared
        shared = {"sharex": made[0] if made and share_x else None, "sharey": made[0] if made and share_y else None}
        axes = figure.add_subplot(grid[divmod(place, columns)], axes_class=PanelAxes, **shared)
        axes.set_title(title)
        if not made or not share_y:
            axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
        # an axis that is not visible costs nothing; the lowest of its column may not be the grid's lowest
        axes.xaxis.set_visible(not share_x or place >= count - columns)
        axes.yaxis.set_visible(not share_y or place % columns == 0)
        made.append(axes)
    return figure, made


def fold(title: str, columns: int) -> str:
    """The title in lines as wide as a panel (an 8-point letter takes some 0.065 inches), cut after the last."""
    width = int((WIDTH / columns - 0.25) / 0.065)
    return "\n".join(textwrap.wrap(title, width, max_lines=MOST_LINES, placeholder=" …"))


def columns_for(settings: Sequence[object]) -> int:
    """Columns of a grid of interventions times settings: a column each while they fit the page."""
    return len(settings) if 1 <= len(settings) <= 3 else 2


def arranged(parts: Sequence[tuple[str, Part]], settings: Sequence[object]) -> tuple[list[Part], int]:
    """Parts in the order of a grid's places, and its columns. parts: (intervention, part), one intervention's together.

    An intervention is a column and a setting a row where that fits, which makes the lowest figure.
    """
    groups = [[part for _, part in own] for _, own in groupby(parts, key=lambda each: each[0])]
    if 1 < len(groups) <= MOST_COLUMNS and len({len(own) for own in groups}) == 1:
        return [own[row] for row in range(len(groups[0])) for own in groups], len(groups)
    flat = [part for _, part in parts]
    if len(groups) == 1 or max(map(len, groups), default=1) == 1:
        return flat, max(1, min(len(flat), MOST_COLUMNS))
    return flat, columns_for(settings)


def colour_bar(figure: Figure, colours: ScalarMappable, label: str, chance: float | None = None) -> Axes:
    """The bar of a figure's colours, to the right of its panels, perhaps with a white line at chance.

    A picture of the colours: matplotlib's own bar takes as long as two panels, and is a quad for each colour in SVG.
    """
    axes = figure.add_axes((0.95, 0.1, 0.02, 0.8), axes_class=PanelAxes, label=BAR)
    low, high = colours.get_clim()
    axes.imshow(
        np.linspace(high, low, 256)[:, None], cmap=colours.cmap, vmin=low, vmax=high, aspect="auto",
        extent=(0, 1, low, high), interpolation="nearest",
    )  # fmt: skip
    if chance is not None:
        axes.plot([0, 1], [chance, chance], color="white", linewidth=1.5)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_visible(False)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(label)
    return axes


def whole_layers(axes: Axes, layers: np.ndarray, room: float = 0.4) -> None:
    """Ticks of the layer axis, which all panels share, at whole numbers, with room at both ends."""
    spec = axes.get_subplotspec()
    beside = spec.get_gridspec().ncols if spec is not None else 1
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=max(3, 10 // beside), min_n_ticks=1))
    axes.set_xlim(layers.min() - room, layers.max() + room)


def ink(image: AxesImage, values: Sequence[float] | np.ndarray) -> list[str]:
    """Black or white for each value, whichever stands out from the colour that the image has for it."""
    colours = np.asarray(image.cmap(image.norm(np.asarray(values, dtype=float))))[:, :3]
    return ["white" if light < 0.5 else "black" for light in colours @ (0.299, 0.587, 0.114)]


def dot(
    axes: Axes, image: AxesImage, places: Sequence[tuple[float, float]], values: Sequence[float], size: float
) -> None:
    """A dot of ``size`` points at each (x, y) of a heat map, to be seen on the colour of its value."""
    if places:
        x, y = zip(*places, strict=True)
        axes.scatter(x, y, s=size**2, color=ink(image, values), linewidths=0)
