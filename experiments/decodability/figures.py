"""CD by layer, shots and task; CD of pairs; the states in two dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from patchboard.experiment.projection import MIN_DIST, NEIGHBOURS
from patchboard.measure.decodability import ALL
from patchboard.measure.floors import floors_in
from patchboard.report.decodability_figures import floor_numbers, floor_panels, floors_caption
from patchboard.report.drawing import Drawing, colour_bar, panels, single, whole_layers
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import grid_of, heat_map, key_of, line_with_band, look_of
from patchboard.report.numbers import counted, fraction
from patchboard.report.style import CD_COLOUR, WIDTH

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
    numbers = joined([tidy(table, "cd", metric="CD", unit="fraction", keep=["chance"])])
    yield Drawing("by-task", "CD by layer, shots and task", caption, _by_task(table), numbers)
    if floors_in(table):
        at_shots = table.filter(pl.col("shots") == shots)
        by_task = {
            "all tasks" if task == ALL else task: rows
            for (task,), rows in at_shots.group_by("task", maintain_order=True)
        }
        title = f"CD and its floors by layer and task, {counted(shots, 'shot')}"
        caption = f"A panel a task, {counted(shots, 'demonstration')}. {floors_caption(at_shots)}"
        yield Drawing("floors", title, caption, floor_panels(by_task), floor_numbers(at_shots))
    caption = (
        f"Layer {layer}, {shots} shots. Neighbours are sought among the points of two tasks alone: 0.50 is chance,"
        " 1.00 a pair that is never confused."
    )
    numbers = joined([tidy(pairs, "cd", keep=["other"], metric="CD of the pair", unit="fraction")])
    yield Drawing("pairs", "CD of each pair of tasks", caption, _pairs(pairs), numbers)
    title, how = _PLACED[projection["method"][0]]
    caption = (
        f"States of layer {layer} at the token before the answer; a panel a number of demonstrations, each {how}."
        " CD is measured in all dimensions, not in these two."
    )
    drawn = projection.select("shots", "task", "x", "y")
    yield Drawing("projection", title, caption, _projection(projection), drawn)


def _by_task(table: pl.DataFrame) -> Figure:
    tasks = table["task"].unique(maintain_order=True).to_list()
    shots = table["shots"].unique().sort().to_list()
    figure, axes = panels(["all tasks" if task == ALL else task for task in tasks], 4, height=1.7, share_y=True)
    for axis, task in zip(axes, tasks, strict=True):
        axis.axhline(table["chance"][0], color=CD_COLOUR, linestyle=":", linewidth=1)
        for number, each in enumerate(shots):
            cd = table.filter(pl.col("task") == task, pl.col("shots") == each).sort("layer")
            line_with_band(axis, cd, ("layer", "cd"), markersize=3, linewidth=1.2, **look_of(number))
        axis.set_ylim(-0.02, 1.02)
        whole_layers(axis, cd["layer"].to_numpy())
    for axis in axes[-4:]:
        axis.set_xlabel("layer")
    figure.supylabel("CD")
    handles = key_of(counted(each, "shot") for each in shots)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def square(pairs: pl.DataFrame, tasks: Sequence[str]) -> np.ndarray:
    """[task, other] CD of the pair, both ways; NaN on the diagonal."""
    one_way = grid_of(pairs, tasks, tasks, ("task", "other", "cd"))
    return np.where(np.isnan(one_way), one_way.T, one_way)


def _pairs(pairs: pl.DataFrame) -> Figure:
    tasks = list(dict.fromkeys([*pairs["task"], *pairs["other"]]))
    grid = square(pairs, tasks)
    figure, axes = single(0.6 + 0.4 * len(tasks), WIDTH * 0.7)
    image = heat_map(axes, grid, (min(0.5, np.nanmin(grid)), 1), text_of=fraction)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_yticks(range(len(tasks)), tasks)
    colour_bar(figure, image, "CD of the pair")
    return figure


def _shares(part: pl.DataFrame) -> str:
    """Of the variance, that the axes hold, where they are principal axes."""
    shares = part["x_share"][0], part["y_share"][0]
    return "" if None in shares else f" ({shares[0]:.0%}, {shares[1]:.0%})"


def _projection(projection: pl.DataFrame) -> Figure:
    shots = projection["shots"].unique().sort().to_list()
    tasks = projection["task"].unique(maintain_order=True).to_list()
    parts = [projection.filter(pl.col("shots") == each) for each in shots]
    titles = [f"{counted(each, 'shot')}{_shares(part)}" for each, part in zip(shots, parts, strict=True)]
    figure, axes = panels(titles, min(3, len(shots)), height=2.1, share_y=False, share_x=False)
    for axis, part in zip(axes, parts, strict=True):
        for number, task in enumerate(tasks):
            states = part.filter(pl.col("task") == task)
            axis.scatter(states["x"], states["y"], s=7, linewidths=0, **look_of(number))
    handles = key_of(tasks, linestyle="")
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
