"""Figures of an experiment: emergence on one time axis, error over pairs, CD by layer, patch matrices, heads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from patchboard.experiments.synthetic.settings import SyntheticSettings
from patchboard.experiments.synthetic.summary import Tables, mean_errors, most_shots
from patchboard.measure.decodability import ALL
from patchboard.report.drawing import Drawing, colour_bar, panels, single
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import CD_LOOK, every_tick, grid_of, heat_map, line_with_band, look_of
from patchboard.report.style import CD_COLOUR, CYCLE

_LINES = {
    "least_squares": ("#E69F00", ":"), "ridge": ("#CC5200", "--"), "lasso": ("#D285B1", "-."),
    "mixture": ("#009E73", "--"), "oracle": ("#000000", ":"),
}  # fmt: skip
_BLUE = CYCLE[0]
_ERROR = "squared error, mean over pairs"
_MOST_TASKS = 12


def drawings(settings: SyntheticSettings, summary: Mapping[str, Any], tables: Tables) -> Iterator[Drawing]:
    """All figures, in the order of the page."""
    names = list(settings.data.tasks)[:_MOST_TASKS]
    yield _emergence(names, summary, tables)
    yield _curves(names, summary, tables)
    if summary["layer"] is not None:
        yield _layers(settings, tables["decodability"])
    yield from _matrix_figures(names, summary, tables["matrix"])
    yield from _head_figures(names, tables["effects"])


def _emergence(names: Sequence[str], summary: Mapping[str, Any], tables: Tables) -> Drawing:
    figure, axes = panels(names, min(2, len(names)), 2.0, share_y=True)
    layer, cd = summary["layer"], most_shots(tables["decodability"])
    numbers = []
    for name, axis in zip(names, axes, strict=True):
        errors = mean_errors(tables["errors"], name).sort("step")
        line_with_band(axis, errors, ("step", "error"), alpha=0.2, markersize=3, label="error", **look_of(0))
        numbers.append(tidy(errors, "error", task=name, metric=_ERROR))
        for baseline in ("ridge", "mixture", "oracle"):
            own = mean_errors(tables["baselines"], name).filter(pl.col("baseline") == baseline)
            numbers.append(tidy(own, "error", task=name, series=baseline, metric=_ERROR))
            for row in own.iter_rows(named=True):
                colour, dashes = _LINES[baseline]
                axis.axhline(row["error"], color=colour, linestyle=dashes, linewidth=1, label=baseline)
        axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        if layer is not None:
            own = cd.filter(pl.col("task") == name, pl.col("layer") == layer).sort("step")
            _beside(axis, own)
            numbers.append(tidy(own, "cd", metric="CD", keep=["chance"]))
    for axis in axes[-min(2, len(names)) :]:
        axis.set_xlabel("training step")
    figure.supylabel(_ERROR)
    _legend(figure, axes[0], f"CD at layer {layer}" if layer is not None else "")
    caption = (
        "Test error of each task and, on the right-hand axis, how well its sequences' states can be told from other"
        " tasks'. Lines across: ridge, which knows of no tasks; mixture, the posterior mean over tasks, the least error"
        " that is to be had; and the oracle, which is told the task. Bands: bootstrap over sequences."
    )
    return Drawing("emergence", "Error and Concept Decodability over training", caption, figure, joined(numbers))


def _beside(axis: Axes, cd: pl.DataFrame) -> None:
    right = axis.twinx()
    line_with_band(right, cd, ("step", "cd"), markersize=2.5, **CD_LOOK)
    right.axhline(cd["chance"][0], color=CD_COLOUR, linestyle=":", linewidth=0.8)
    right.set_ylim(0, 1.02)
    right.spines["right"].set_visible(True)
    right.tick_params(axis="y", colors=CD_COLOUR)


def _legend(figure: Figure, axis: Axes, cd: str = "") -> None:
    handles, labels = axis.get_legend_handles_labels()
    if cd:
        handles += axis.plot([], [], markersize=2.5, **CD_LOOK)
        labels.append(cd)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)))


def _curves(names: Sequence[str], summary: Mapping[str, Any], tables: Tables) -> Drawing:
    figure, axes = panels(names, min(2, len(names)), 2.0, share_y=True)
    shown = _shown_steps(summary)
    numbers = []
    for name, axis in zip(names, axes, strict=True):
        for number, step in enumerate(shown):
            own = tables["errors"].filter(pl.col("task") == name, pl.col("step") == step, pl.col("pair").is_not_null())
            numbers.append(tidy(own, "error", keep=["pair"], metric="squared error"))
            shade = 0.35 + 0.65 * (number + 1) / len(shown)
            axis.plot(
                own["pair"] - 1, own["error"], color=_BLUE, alpha=shade, marker="o", markersize=3, label=f"step {step}"
            )
        for baseline, (colour, dashes) in _LINES.items():
            of_it = pl.col("task") == name, pl.col("baseline") == baseline, pl.col("pair").is_not_null()
            own = tables["baselines"].filter(*of_it)
            if not own.is_empty():
                numbers.append(tidy(own, "error", series=baseline, keep=["pair"], metric="squared error"))
                axis.plot(
                    own["pair"] - 1, own["error"], color=colour, linestyle=dashes, label=baseline.replace("_", " ")
                )
        axis.set_yscale("log")
        # least squares has no bound where pairs are as many as numbers: the others are to be told apart
        axis.set_ylim(top=2 * float(tables["errors"].filter(pl.col("pair").is_not_null())["error"].max()))  # type: ignore[arg-type]
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes[-min(2, len(names)) :]:
        axis.set_xlabel("pairs shown")
    figure.supylabel("squared error")
    _legend(figure, axes[0])
    caption = (
        "Test error of the next y after so many pairs, at some checkpoints, against estimators that are given the same"
        " pairs. A model that infers the task leaves ridge and lasso for the mixture's curve."
    )
    drawn = joined(numbers).with_columns(pl.col("pair") - 1).rename({"pair": "pairs shown"})
    return Drawing("curves", "Error over demonstrations", caption, figure, drawn)


def _shown_steps(summary: Mapping[str, Any]) -> list[int]:
    """The checkpoints that matter: the middle one, those around the tasks' becoming readable, and the last."""
    steps = summary["steps"]
    readable = [task["readable"] for task in summary["tasks"].values() if task["readable"] is not None]
    chosen = {steps[len(steps) // 2], steps[-1]}
    if readable:
        chosen |= {steps[max(0, steps.index(min(readable)) - 1)], max(readable)}
    return sorted(chosen)


def _layers(settings: SyntheticSettings, decodability: pl.DataFrame) -> Drawing:
    own = most_shots(decodability).filter(pl.col("task") == ALL).sort("layer", "step")
    steps, layers = own["step"].unique().sort().to_list(), own["layer"].unique().sort().to_list()
    figure, axes = single(0.9 + 0.25 * len(layers))
    image = heat_map(axes, own["cd"].to_numpy().reshape(len(layers), len(steps)), (0, 1), upwards=True)
    every_tick(axes.xaxis, steps, 12)
    every_tick(axes.yaxis, layers, len(layers))
    axes.set_xlabel("training step")
    axes.set_ylabel("layer")
    colour_bar(figure, image, "CD", own["chance"][0])
    caption = (
        f"Concept Decodability of all tasks by block, {own['shots'][0]} pairs shown, at each checkpoint. Chance is"
        f" {own['chance'][0]:.2f} (white line on the bar)."
    )
    numbers = joined([tidy(own, "cd", metric="CD", unit="fraction", keep=["chance"])])
    return Drawing("layers", "Where the task can be read, over training", caption, figure, numbers)


def _matrix_figures(names: Sequence[str], summary: Mapping[str, Any], matrix: pl.DataFrame) -> Iterator[Drawing]:
    """Source x target at the shown checkpoints, one figure an intervention."""
    for intervention, found in summary["matrix"].items():
        of_it = matrix.filter(pl.col("intervention") == intervention)
        targets = of_it["vector_task"].unique(maintain_order=True).to_list()
        shown = _shown_steps(summary)
        figure, axes = panels([f"step {step}" for step in shown], len(shown), 0.8 + 0.35 * len(names), share_y=True)
        limit = float(of_it.filter(pl.col("step").is_in(shown))["effect"].abs().max() or 1.0)  # type: ignore[arg-type]
        for step, axis in zip(shown, axes, strict=True):
            mine = of_it.filter(pl.col("step") == step, pl.col("task").is_in(names))
            image = _signed(axis, grid_of(mine, names, targets, ("task", "vector_task", "effect")), limit)
            axis.set_xticks(range(len(targets)), targets, rotation=30)
            axis.set_yticks(range(len(names)), names)
        colour_bar(figure, image, "change in squared error")
        figure.supxlabel("vector of")
        figure.supylabel("sequences of")
        caption = (
            f"Change of the last y's squared error by '{intervention}' at layer {found['layers']}: sequences of one"
            " task (rows), the vector of another (columns). Below 0 the edit helps. The layer was chosen on the other"
            " half of the queries; all layers, random vectors and the state itself stand in effects.parquet."
        )
        drawn = of_it.filter(pl.col("step").is_in(shown), pl.col("task").is_in(names))
        numbers = joined([tidy(drawn, "effect", keep=["vector_task"], metric="change in squared error")])
        yield Drawing(f"matrix-{intervention}", f"Source by target: {intervention}", caption, figure, numbers)


def _signed(axis: Axes, grid: np.ndarray, limit: float) -> AxesImage:
    text_of = "{:+.2f}".format if grid.shape[1] <= 8 else None
    return heat_map(axis, grid, (-limit, limit), "RdBu_r", text_of=text_of)


def _head_figures(names: Sequence[str], effects: pl.DataFrame) -> Iterator[Drawing]:
    last = effects.filter(pl.col("head") >= 0, pl.col("control") == "", pl.col("step") == pl.col("step").max())
    for intervention in last["intervention"].unique(maintain_order=True):
        own = last.filter(pl.col("intervention") == intervention)
        layers, heads = own["layer"].unique().sort().to_list(), own["head"].unique().sort().to_list()
        figure, axes = panels(names, min(3, len(names)), 0.7 + 0.25 * len(heads), share_y=True)
        limit = float(own["effect"].abs().max() or 1.0)  # type: ignore[arg-type]
        for name, axis in zip(names, axes, strict=True):
            mine = own.filter(pl.col("task") == name)
            image = _signed(axis, grid_of(mine, heads, layers, ("head", "layer", "effect")), limit)
            every_tick(axis.xaxis, layers, len(layers))
            every_tick(axis.yaxis, heads, len(heads))
        colour_bar(figure, image, "change in squared error")
        figure.supxlabel("layer")
        figure.supylabel("head")
        caption = (
            f"'{intervention}' of one head at a time at the last checkpoint. A head that one task alone needs is that"
            " task's."
        )
        drawn = own.filter(pl.col("task").is_in(names))
        numbers = joined([tidy(drawn, "effect", metric="change in squared error")])
        yield Drawing(f"heads-{intervention}", f"Heads: {intervention}", caption, figure, numbers)
