"""What a figure is to the page, and the grid of small panels that most figures are."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from patchboard.report.style import WIDTH

MOST_PANELS = 24
"""Panels of one figure; more are split into several figures, which a page can break between."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure: its file name without ending, a title, and how to read it."""

    name: str
    title: str
    caption: str
    figure: Figure

    def png(self) -> bytes:
        """The figure as a file's content, in the style that is current."""
        buffer = io.BytesIO()
        FigureCanvasAgg(self.figure).print_png(buffer)  # savefig would draw everything twice
        return buffer.getvalue()


MOST_LINES = 3
"""Lines of a panel's title; what is longer (a swept template, say) stands whole in the page's tables."""

_LINE = 0.14
"""Inches that a further line of a title takes."""


def panels(
    titles: Sequence[str], columns: int, height: float, share_y: bool, share_x: bool = True
) -> tuple[Figure, list[Axes]]:
    """A figure of one panel for each title, ``height`` inches each, row by row; left-over places stay empty."""
    count, rows = len(titles), math.ceil(len(titles) / columns)
    folded = [fold(title, columns) for title in titles]
    height += _LINE * max((title.count("\n") for title in folded), default=0)
    figure = Figure(figsize=(WIDTH, height * rows + 0.55), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).ravel()
    for spare in grid[count:]:
        spare.remove()
    for above in grid[max(count - columns, 0) : count]:
        above.tick_params(labelbottom=True)  # the lowest panel of its column, though maybe not of the grid
    for axes, title in zip(grid, folded, strict=False):
        axes.set_title(title)
    return figure, list(grid[:count])


def fold(title: str, columns: int) -> str:
    """The title in lines as wide as a panel (a 9-point letter takes some 0.075 inches), cut after the last."""
    width = int((WIDTH / columns - 0.6) / 0.075)
    return "\n".join(textwrap.wrap(title, width, max_lines=MOST_LINES, placeholder=" …"))


def columns_for(settings: Sequence[object]) -> int:
    """Columns of a grid of interventions times settings: a column each while they fit the page."""
    return len(settings) if 1 < len(settings) <= 3 else 2


def whole_layers(axes: Axes, layers: np.ndarray, room: float = 0.4) -> None:
    """Ticks of the layer axis, which all panels share, at whole numbers, with room at both ends."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.set_xlim(layers.min() - room, layers.max() + room)


def ink(image: AxesImage, value: float) -> str:
    """Black or white, whichever stands out from the colour that the image has for a value."""
    red, green, blue, _ = np.ravel(image.cmap(image.norm(np.array([value]))))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"


def dot(
    axes: Axes, image: AxesImage, places: Sequence[tuple[float, float]], values: Sequence[float], size: float
) -> None:
    """A dot of ``size`` points at each (x, y) of a heat map, to be seen on the colour of its value."""
    if places:
        x, y = zip(*places, strict=True)
        axes.scatter(x, y, s=size**2, color=[ink(image, value) for value in values], linewidths=0)
