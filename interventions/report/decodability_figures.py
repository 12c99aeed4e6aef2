"""CD by layer and shots, and accuracy against CD."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.measure.decodability import ALL
from patchboard.measure.floors import floors_in
from patchboard.report.drawing import Drawing, colour_bar, panels, single, whole_layers
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import (
    FLOOR_LOOKS,
    MARKERS,
    every_tick,
    floor_key,
    floor_lines,
    heat_map,
    level_line,
    line_with_band,
)
from patchboard.report.numbers import counted, fraction
from patchboard.report.run_files import Run, decodabilities
from patchboard.report.style import CD_COLOUR, CYCLE, WIDTH

_MOST_WRITTEN = 32
"""Layers up to which two digits fit a square of the heat map at 8 points."""


def cd_figures(run: Run) -> Iterator[Drawing]:
    """Heat map of CD, layer by number of shots, one for each different table of CD; lines where it has floors."""
    tables = decodabilities(run)
    for number, (setting, table) in enumerate(tables, start=1):
        overall = table.filter(pl.col("task") == ALL).sort("shots", "layer")
        shots = overall["shots"].unique().sort().to_list()
        layers = overall["layer"].unique().sort().to_list()
        values = overall["cd"].to_numpy().reshape(len(shots), len(layers))
        chance = overall["chance"][0]
        caption = (
            "Concept Decodability of all labels: leave-one-out vote of the k nearest states at the token before"
            f" the answer, after so many demonstrations. Chance is {fraction(chance)} (white line on the bar). CD can"
            " lie below chance where tasks share their prompts' inputs: the nearest prompts are then the same one"
            " under other tasks. Read a row: at which layer the task becomes readable; a column upwards: how many"
            " demonstrations that takes."
        )
        name = "cd" + (f"-{number}" if len(tables) > 1 else "")
        title = "CD by layer and number of demonstrations" + (f", {setting}" if setting else "")
        numbers = tidy(overall, "cd", setting=setting, metric="CD", unit="fraction", keep=["chance"])
        yield Drawing(name, title, caption, _heat_map(values, layers, shots, chance), numbers)
        if floors_in(overall):
            title = "CD and its floors by layer" + (f", {setting}" if setting else "")
            at_shots = {counted(each, "shot"): overall.filter(pl.col("shots") == each) for each in shots}
            caption = f"CD of all labels, a panel a number of demonstrations. {floors_caption(overall)}"
            drawn = floor_numbers(overall.with_columns(setting=pl.lit(setting)))
            yield Drawing(name.replace("cd", "cd-floors", 1), title, caption, floor_panels(at_shots), drawn)


def _heat_map(values: np.ndarray, layers: list[int], shots: list[int], chance: float) -> Figure:
    figure, axes = single(0.8 + 0.24 * len(shots))
    digits = (lambda value: fraction(value).removeprefix("0")) if len(layers) > 12 else fraction
    text_of = digits if len(layers) <= _MOST_WRITTEN else None
    image = heat_map(axes, values, (0, 1), upwards=True, text_of=text_of)
    every_tick(axes.xaxis, layers, 20)
    axes.set_yticks(range(len(shots)), [str(each) for each in shots])
    axes.set_xlabel("layer")
    axes.set_ylabel("shots")
    colour_bar(figure, image, "CD", chance)
    return figure


def floors_caption(cd: pl.DataFrame) -> str:
    """How to read ``floor_panels``."""
    twin = (
        " The untrained twin is a network of the same configuration with random weights, asked the same prompts: its CD"
        " is what the prompts' looks give without any learning, so read CD above it."
    )
    shuffled = (
        " Labels shuffled: the same neighbours vote for labels that were permuted over the prompts; line and band are"
        " the mean and the central share of the permutations."
    )
    told = {"twin": twin, "shuffled": shuffled}
    return "Bands are bootstrap intervals over prompts, dotted is chance." + "".join(
        told[each] for each in floors_in(cd)
    )


def floor_panels(tables: Mapping[str, pl.DataFrame]) -> Figure:
    """Title -> rows of CD by layer, with floors: a panel each, the floors as thin lines below the model's own."""
    columns = min(3, len(tables))
    figure, axes = panels(list(tables), columns, height=1.9, share_y=True)
    for axis, table in zip(axes, tables.values(), strict=True):
        cd = table.sort("layer")
        level_line(axis, cd["chance"][0], color=CD_COLOUR, linestyle=":", linewidth=1)
        floor_lines(axis, cd)
        line_with_band(axis, cd, ("layer", "cd"), **_own_look(len(cd)))
        axis.set_ylim(-0.02, 1.02)
        whole_layers(axis, cd["layer"].to_numpy())
    for axis in axes[-columns:]:
        axis.set_xlabel("layer")
    figure.supylabel("CD")
    floors = floors_in(pl.concat(tables.values()))
    handles = [Line2D([], [], label="the model", **_own_look(1)), *floor_key(floors)]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def floor_numbers(cd: pl.DataFrame) -> pl.DataFrame:
    """What ``floor_panels`` shows."""
    tables = [tidy(cd, "cd", metric="CD", unit="fraction"), tidy(cd, "chance", "", metric="chance", unit="fraction")]
    tables += [tidy(cd, each, each, metric=f"CD, {FLOOR_LOOKS[each][0]}", unit="fraction") for each in floors_in(cd)]
    return joined(tables)


def _own_look(layers: int) -> dict[str, Any]:
    """Of the model's own line: thick, with markers while they can be told apart."""
    return {"color": CYCLE[0], "linewidth": 1.8, "marker": "o" if layers <= 20 else "", "markersize": 3}


def accuracy_figures(run: Run) -> Iterator[Drawing]:
    """Accuracy against CD by task and shots, with the fitted line; none without a point."""
    fit: dict[str, Any] | None = run.summary["accuracy_against_cd"]
    if not fit or not fit["points"]:
        return
    points = pl.DataFrame(fit["points"])
    tasks = points["task"].unique(maintain_order=True).to_list()
    shots = points["shots"].unique().sort().to_list()
    colour = {task: CYCLE[i % len(CYCLE)] for i, task in enumerate(tasks)}
    marker = {each: MARKERS[i % len(MARKERS)] for i, each in enumerate(shots)}

    figure, axes = single(2.8, WIDTH * 0.7)
    drawn = [tidy(points, "accuracy", keep=["cd"], metric="accuracy", unit="fraction")]
    for each in shots:
        own = points.filter(pl.col("shots") == each)
        axes.scatter(
            own["cd"], own["accuracy"], s=49, c=[colour[task] for task in own["task"]], marker=marker[each],
            edgecolors="white", linewidths=0.6, clip_on=False, zorder=3,
        )  # fmt: skip
    if fit["slope"] is not None:
        ends = np.array([points["cd"].min(), points["cd"].max()], dtype=float)
        fitted = fit["intercept"] + fit["slope"] * ends
        axes.plot(ends, fitted, color="black", linewidth=1.2)
        line = pl.DataFrame({"cd": ends, "accuracy": fitted})
        drawn.append(tidy(line, "accuracy", keep=["cd"], metric="least-squares line", unit="fraction"))
        axes.set_title(f"R² = {fraction(fit['r2'])}, n = {fit['n']}")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("CD" + (f" at layer {fit['layer']}" if "layer" in fit else ""))
    axes.set_ylabel("accuracy (fraction)")
    axes.grid(color="#dddddd", linewidth=0.6)
    handles = [Line2D([], [], color=colour[task], marker="o", linestyle="", label=task) for task in tasks]
    handles += [
        Line2D([], [], color="#444444", marker=marker[each], linestyle="", label=counted(each, "shot"))
        for each in shots
    ]
    figure.legend(handles=handles, loc="outside right upper")
    caption = (
        "Each point is one task after so many demonstrations: how well the task can be told from the state, and"
        " how often the model answers right. The line is a least-squares fit; R² is the share of the variance of"
        " accuracy that goes with CD. Points of one task are not independent, so the fit carries no p value."
    )
    yield Drawing("accuracy-against-cd", "Accuracy against CD", caption, figure, joined(drawn))
