"""CD by layer, shots and task; CD of pairs; the states in two dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.experiment.projection import MIN_DIST, NEIGHBOURS
from patchboard.measure.decodability import ALL
from patchboard.report.drawing import Drawing, ink, panels, whole_layers
from patchboard.report.numbers import fraction
from patchboard.report.style import CD_COLOUR, CYCLE, WIDTH

_MARKERS = "osD^vP*X"
_PLACED = {
    "pca": ("The states on two principal axes", "on its own two principal axes (share of its variance beside them)"),
    "umap": (
        "The states by UMAP",
        f"by its own UMAP ({NEIGHBOURS} neighbours, minimal distance {MIN_DIST}): who is near whom is kept as far as it"
        " can be, distances between groups are not",
    ),
}
"""Method -> title, and how the states are placed."""


def drawings(
    summary: Mapping[str, Any], table: pl.DataFrame, pairs: pl.DataFrame, projection: pl.DataFrame
) -> Iterator[Drawing]:
    """All figures of an experiment."""
    layer, shots = summary["choice"]["layer"], summary["shots"]
    caption = (
        "A panel a task, a line a number of demonstrations. Dotted: chance. Bands: bootstrap over points."
        " Below chance is possible at 0 shots: the nearest prompts are then the same input under other tasks."
    )
    yield Drawing("by-task", "CD by layer, shots and task", caption, _by_task(table))
    caption = (
        f"Layer {layer}, {shots} shots. Neighbours are sought among the points of two tasks alone: 0.50 is chance,"
        " 1.00 a pair that is never confused."
    )
    yield Drawing("pairs", "CD of each pair of tasks", caption, _pairs(pairs))
    title, how = _PLACED[projection["method"][0]]
    caption = (
        f"States of layer {layer} at the token before the answer; a panel a number of demonstrations, each {how}."
        " CD is measured in all dimensions, not in these two."
    )
    yield Drawing("projection", title, caption, _projection(projection))


def _by_task(table: pl.DataFrame) -> Figure:
    tasks = table["task"].unique(maintain_order=True).to_list()
    shots = table["shots"].unique().sort().to_list()
    figure, axes = panels(["all tasks" if task == ALL else task for task in tasks], 4, height=1.7, share_y=True)
    for axis, task in zip(axes, tasks, strict=True):
        axis.axhline(table["chance"][0], color=CD_COLOUR, linestyle=":", linewidth=1)
        for number, each in enumerate(shots):
            mine = table.filter(pl.col("task") == task, pl.col("shots") == each).sort("layer")
            colour = CYCLE[number % len(CYCLE)]
            axis.fill_between(mine["layer"], mine["ci_low"], mine["ci_high"], color=colour, alpha=0.15, linewidth=0)
            marker = _MARKERS[number % len(_MARKERS)]
            axis.plot(mine["layer"], mine["cd"], color=colour, marker=marker, markersize=3, linewidth=1.2)
        axis.set_ylim(-0.02, 1.02)
        whole_layers(axis, mine["layer"].to_numpy())
    for axis in axes[-4:]:
        axis.set_xlabel("layer")
    figure.supylabel("CD", fontsize=9)
    handles = [_handle(i, f"{each} shot{'s' * (each != 1)}", "-") for i, each in enumerate(shots)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _handle(number: int, label: str, line: Literal["-", ""]) -> Line2D:
    colour, marker = CYCLE[number % len(CYCLE)], _MARKERS[number % len(_MARKERS)]
    return Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=4, label=label)


def square(pairs: pl.DataFrame, tasks: Sequence[str]) -> np.ndarray:
    """[task, other] CD of the pair, both ways; NaN on the diagonal."""
    grid = np.full((len(tasks), len(tasks)), np.nan)
    for row in pairs.iter_rows(named=True):
        i, j = tasks.index(row["task"]), tasks.index(row["other"])
        grid[i, j] = grid[j, i] = row["cd"]
    return grid


def _pairs(pairs: pl.DataFrame) -> Figure:
    tasks = list(dict.fromkeys([*pairs["task"], *pairs["other"]]))
    grid = square(pairs, tasks)
    figure = Figure(figsize=(WIDTH * 0.7, 0.9 + 0.45 * len(tasks)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid, cmap="viridis", vmin=min(0.5, np.nanmin(grid)), vmax=1, aspect="auto")
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_yticks(range(len(tasks)), tasks)
    for (i, j), value in np.ndenumerate(grid):
        if i != j:
            axes.text(j, i, fraction(value), ha="center", va="center", fontsize=8, color=ink(image, value))
    figure.colorbar(image, ax=axes, label="CD of the pair", pad=0.02)
    return figure


def _shares(part: pl.DataFrame) -> str:
    """Of the variance, that the axes hold, where they are principal axes."""
    shares = part["x_share"][0], part["y_share"][0]
    return "" if None in shares else f" ({shares[0]:.0%}, {shares[1]:.0%})"


def _projection(projection: pl.DataFrame) -> Figure:
    shots = projection["shots"].unique().sort().to_list()
    tasks = projection["task"].unique(maintain_order=True).to_list()
    parts = [projection.filter(pl.col("shots") == each) for each in shots]
    titles = [f"{each} shot{'s' * (each != 1)}{_shares(part)}" for each, part in zip(shots, parts, strict=True)]
    # not panels(): each has axes of its own
    columns = min(3, len(shots))
    rows = -(-len(shots) // columns)
    figure = Figure(figsize=(WIDTH, 2.3 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for spare in grid[len(shots) :]:
        spare.remove()
    for axis, title, part in zip(grid, titles, parts, strict=False):
        axis.set_title(title)
        for number, task in enumerate(tasks):
            mine = part.filter(pl.col("task") == task)
            marker = _MARKERS[number % len(_MARKERS)]
            axis.scatter(mine["x"], mine["y"], s=7, color=CYCLE[number % len(CYCLE)], marker=marker, linewidths=0)
        axis.tick_params(labelsize=7)
    handles = [_handle(i, task, "") for i, task in enumerate(tasks)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
