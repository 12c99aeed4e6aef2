"""What a figure is to the page, and the grid of small panels that most figures are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from interventions.report.style import WIDTH

MOST_PANELS = 24
"""Panels of one figure; more are split into several figures, which a page can break between."""


@dataclass(frozen=True)
class Drawing:
    """A finished figure: its file name without ending, a title, and how to read it."""

    name: str
    title: str
    caption: str
    figure: Figure


def panels(count: int, columns: int, height: float, share_y: bool) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, ``height`` inches each, row by row; left-over places stay empty."""
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows + 0.55), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=share_y).ravel()
    for spare in grid[count:]:
        spare.remove()
    for above in grid[max(count - columns, 0) : count]:
        above.tick_params(labelbottom=True)  # the lowest panel of its column, though maybe not of the grid
    return figure, list(grid[:count])


def columns_for(settings: Sequence[object]) -> int:
    """Columns of a grid of interventions times settings: a column each while they fit the page."""
    return len(settings) if 1 < len(settings) <= 3 else 2


def whole_layers(axes: Axes, layers: np.ndarray) -> None:
    """Ticks of the layer axis at whole numbers, with room at both ends."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.set_xlim(layers.min() - 0.4, layers.max() + 0.4)
