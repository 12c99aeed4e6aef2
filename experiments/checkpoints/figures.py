"""CD and accuracy on twin axes over log steps, effects below; each task alone; CD by layer and step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.measure.decodability import ALL
from patchboard.report.drawing import Drawing, colour_bar, panels, single
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import (
    ACCURACY_LOOK,
    CD_LOOK,
    Look,
    effect_look,
    every_tick,
    heat_map,
    line_with_band,
)
from patchboard.report.numbers import counted
from patchboard.report.style import CD_COLOUR, CYCLE, effect_label, unit_of
from patchboard.tasks.base import NULL

_ACCURACY = CYCLE[0]
_NAMES = {"accuracy": "accuracy", "cd": "CD"}
_LOOKS = {"accuracy": ACCURACY_LOOK, "cd": CD_LOOK}
_MOST_WRITTEN = 16
"""Checkpoints up to which two digits fit a square of the heat map."""


def drawings(
    summary: Mapping[str, Any], scores: pl.DataFrame, effects: pl.DataFrame, by_layer: pl.DataFrame
) -> Iterator[Drawing]:
    """All figures of an experiment. by_layer: step, layer, cd of all labels, sorted."""
    layer, shots = summary["layer"], summary["shots"]
    caption = (
        f"Accuracy at {shots} shots (left axis) and CD at layer {layer} (right axis, dotted: chance), mean over tasks,"
        " bands of one standard deviation over tasks, Null left out."
    )
    if len(effects):
        caption += (
            f" Below: effect of editing that layer in prompts of {summary['edited_shots']} shots, pooled over tasks,"
            " bands of a bootstrap over queries; thin: random vectors of the same norm."
        )
    spread = {what: _spread(summary, what) for what in ("accuracy", "cd")}
    edits = _tidy_effects(effects.filter(pl.col("task") == ALL), summary)
    means = [tidy(table, f"{what}_mean", "sd", metric=_NAMES[what], unit="fraction", series="mean and sd over tasks")
             for what, table in spread.items()]  # fmt: skip
    drawn = joined([*means, *edits])
    yield Drawing("training", "CD and accuracy over training", caption, _training(summary, spread, effects), drawn)
    caption = f"Layer {layer}, bands of a bootstrap over prompts. Dotted: chance of CD."
    if summary["metric"] != "accuracy":
        effects = effects.clear()  # in a unit of its own
    tasks = [task for task in scores["task"].unique(maintain_order=True) if task not in (ALL, NULL)]
    shown = [table.filter(pl.col("task").is_in(tasks)) for table in (scores, effects)]
    each = [tidy(shown[0], what, what, metric=name, unit="fraction") for what, name in _NAMES.items()]
    drawn = joined([*each, *_tidy_effects(shown[1], summary)])
    yield Drawing("by-task", "Each task over training", caption, _by_task(summary, tasks, scores, effects), drawn)
    caption = (
        f"CD of all labels at {shots} shots; chance is the white line on the bar. The frame is the layer followed."
    )
    drawn = joined([tidy(by_layer, "cd", metric="CD", unit="fraction", keep=["chance"])])
    yield Drawing("layers", "CD by layer over training", caption, _layers(by_layer, layer), drawn)


def _tidy_effects(rows: pl.DataFrame, summary: Mapping[str, Any]) -> list[pl.DataFrame]:
    shown = rows.filter(pl.col("control").is_in(["", "random"]))
    said = {"metric": f"effect on {summary['metric']}", "unit": unit_of(summary["metric"])}
    return [tidy(shown, "effect", **said)] if len(shown) else []


def _training(summary: Mapping[str, Any], spread: Mapping[str, pl.DataFrame], effects: pl.DataFrame) -> Figure:
    titles = [f"{summary['shots']} shots"]
    if len(effects):
        titles.append(f"edited, {counted(summary['edited_shots'], 'shot')}")
    figure, axes = panels(titles, 1, height=2.1, share_y=False)
    handles = [_line(axes[0], spread["accuracy"], "accuracy", "accuracy")]
    right = axes[0].twinx()
    handles.append(_line(right, spread["cd"], "cd", "CD (right axis)"))
    right.axhline(summary["chance"], color=CD_COLOUR, linestyle=":", linewidth=0.8)
    right.spines["right"].set_visible(True)
    right.tick_params(axis="y", colors=CD_COLOUR)
    right.set_ylabel("CD", color=CD_COLOUR)
    axes[0].set_ylabel("accuracy (fraction)", color=_ACCURACY)
    for axis in (axes[0], right):
        axis.set_ylim(-0.02, 1.05)
    if len(effects):
        handles += _effects(axes[1], effects.filter(pl.col("task") == ALL), summary["interventions"])
        axes[1].axhline(0, color="black", linewidth=0.8)
        axes[1].set_ylabel(effect_label(summary["metric"]))
    _log_steps(axes[-1], summary["steps"])
    figure.legend(handles=handles, loc="outside upper center", ncols=min(5, len(handles)))
    return figure


def _spread(summary: Mapping[str, Any], what: str) -> pl.DataFrame:
    """The tasks' mean by step, in a band of their standard deviation; of a single task there is none."""
    mean, sd = pl.col(f"{what}_mean"), pl.col(f"{what}_sd").fill_null(0)
    spread = pl.DataFrame(summary["over_tasks"])
    return spread.with_columns(sd_low=(mean - sd).clip(0, 1), sd_high=(mean + sd).clip(0, 1))


def _line(axis: Axes, band: pl.DataFrame, what: str, label: str) -> Line2D:
    return line_with_band(axis, band, ("step", f"{what}_mean"), "sd", markersize=3.5, label=label, **_LOOKS[what])


def _effects(axis: Axes, rows: pl.DataFrame, names: Sequence[str]) -> list[Line2D]:
    """A line for each intervention, a thin one for its random control."""
    handles = []
    for number, name in enumerate(names):
        own = rows.filter(pl.col("intervention") == name)
        for control in ("", "random"):
            part = own.filter(pl.col("control") == control).sort("step")
            if part.is_empty():
                continue
            label = f"{name}, {control}" if control else f"effect of {name}"
            look: Look = {**effect_look(number, control), "linewidth": 0.9 if control else 1.6}
            handles.append(line_with_band(axis, part, ("step", "effect"), label=label, markersize=3.5, **look))
    return handles


def _by_task(summary: Mapping[str, Any], tasks: Sequence[str], scores: pl.DataFrame, effects: pl.DataFrame) -> Figure:
    figure, axes = panels(tasks, min(3, len(tasks)), height=1.8, share_y=True)
    lowest = float(effects.filter(pl.col("control") == "").select(pl.col("ci_low").min()).item() or 0)
    handles: list[Line2D] = []
    for axis, task in zip(axes, tasks, strict=True):
        own = scores.filter(pl.col("task") == task).sort("step")
        handles = []
        for what, label in (("accuracy", "accuracy"), ("cd", "CD")):
            line = line_with_band(axis, own, ("step", what), what, markersize=3, label=label, **_LOOKS[what])
            handles.append(line)
        axis.axhline(summary["chance"], color=CD_COLOUR, linestyle=":", linewidth=0.8)
        handles += _effects(axis, effects.filter(pl.col("task") == task), summary["interventions"])
        axis.set_ylim(min(0, lowest) - 0.02, 1.05)
    _log_steps(axes[-1], summary["steps"])
    for axis in axes[-min(3, len(tasks)) :]:
        axis.set_xlabel("training step")
    figure.supylabel("fraction")
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _log_steps(axis: Axes, steps: Sequence[int]) -> None:
    """A log axis, which all panels share; a step 0 stands beside it, half a decade below the next."""
    axis.set_xlabel("training step")
    first = next(step for step in steps if step > 0)
    if steps[0] > 0:
        axis.set_xscale("log")
    else:
        axis.set_xscale("symlog", linthresh=first, linscale=0.5)
        axis.set_xlim(-first / 10, steps[-1] * 1.2)
    parts = (1, 3) if steps[-1] < 300 * first else (1,)
    decades = range(int(np.log10(first)), int(np.log10(steps[-1])) + 1)
    wanted = [part * 10**decade for decade in decades for part in parts]
    shown = [each for each in wanted if first <= each <= steps[-1]]
    shown = [0, *shown] if steps[0] == 0 else shown
    axis.set_xticks(shown, [f"{each:,}" for each in shown])
    axis.minorticks_off()


def _layers(by_layer: pl.DataFrame, followed: int) -> Figure:
    steps, layers = by_layer["step"].unique().sort().to_list(), by_layer["layer"].unique().sort().to_list()
    values = by_layer["cd"].to_numpy().reshape(len(steps), len(layers)).T
    figure, axes = single(0.9 + 0.26 * min(len(layers), 16))
    text_of = _two_digits if len(steps) <= _MOST_WRITTEN and len(layers) <= 16 else None
    image = heat_map(axes, values, (0, 1), upwards=True, text_of=text_of)
    every_tick(axes.xaxis, [f"{step:,}" for step in steps], _MOST_WRITTEN)
    every_tick(axes.yaxis, layers, 16)
    axes.set_xlabel("training step")
    axes.set_ylabel("layer")
    place = layers.index(followed)
    axes.axhspan(place - 0.5, place + 0.5, fill=False, edgecolor="white", linewidth=1.2)
    colour_bar(figure, image, "CD", by_layer["chance"][0])
    return figure


def _two_digits(value: float) -> str:
    return f"{value:.2f}".removeprefix("0") if value < 1 else "1"
