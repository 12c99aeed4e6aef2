"""Conditions side by side: CD by layer, and accuracy by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from patchboard.experiment.conditions import Condition
from patchboard.measure.decodability import ALL
from patchboard.report.drawing import Drawing, panels, whole_layers
from patchboard.report.style import CD_COLOUR, CYCLE

_MARKERS = "osD^vP*X"


def drawings(summary: Mapping[str, Any], conditions: Sequence[Condition]) -> Iterator[Drawing]:
    """All figures of a comparison."""
    caption = (
        "CD of all labels, Null among them; a panel a number of demonstrations. Bands: bootstrap over points. Dotted:"
        f" chance. The upright line is layer {summary['layer']}, where the conditions are compared: the first one's"
        f" best at {summary['shots']} shots."
    )
    yield Drawing("cd", "CD by layer", caption, _cd(conditions, summary["layer"]))
    caption = (
        "Accuracy of the clean prompt by task; over all tasks their mean, with its standard deviation in grey. Black:"
        " bootstrap over queries within tasks."
    )
    yield Drawing("accuracy", "Accuracy by task", caption, _bars(summary, "accuracy"))
    caption = f"What the vector adds to accuracy at layer {summary['layer']}. Bars and lines as above."
    for name in dict.fromkeys(row["intervention"] for row in summary["compared"] if row["measure"] == "effect"):
        yield Drawing(f"effect-{name}", f"Effect of {name} by task", caption, _bars(summary, "effect", name))


def _cd(conditions: Sequence[Condition], layer: int) -> Figure:
    shots = conditions[0].decodability["shots"].unique().sort().to_list()
    figure, axes = panels([_shots(each) for each in shots], min(4, len(shots)), height=2.0, share_y=True)
    for axis, each in zip(axes, shots, strict=True):
        chance = conditions[0].decodability["chance"][0]
        axis.axhline(chance, color=CD_COLOUR, linestyle=":", linewidth=1)
        axis.axvline(layer, color=CD_COLOUR, linewidth=0.6)
        for number, condition in enumerate(conditions):
            table = condition.decodability
            mine = table.filter(pl.col("task") == ALL, pl.col("shots") == each).sort("layer")
            colour = _colour(number)
            axis.fill_between(mine["layer"], mine["ci_low"], mine["ci_high"], color=colour, alpha=0.15, linewidth=0)
            axis.plot(mine["layer"], mine["cd"], color=colour, marker=_marker(number), markersize=3.5, linewidth=1.2)
            whole_layers(axis, mine["layer"].to_numpy())
        axis.set_ylim(-0.02, 1.02)
    figure.supxlabel("layer", fontsize=9)
    figure.supylabel("CD", fontsize=9)
    handles = [
        Line2D([], [], color=_colour(i), marker=_marker(i), markersize=4, label=condition.name)
        for i, condition in enumerate(conditions)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _bars(summary: Mapping[str, Any], measure: str, intervention: str = "") -> Figure:
    rows = [r for r in summary["compared"] if (r["measure"], r["intervention"]) == (measure, intervention)]
    shots = sorted({row["shots"] for row in rows})
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    figure, axes = panels([_shots(each) for each in shots], 1, height=1.9, share_y=True)
    for axis, each in zip(axes, shots, strict=True):
        _panel(axis, [row for row in rows if row["shots"] == each], conditions)
        if measure == "accuracy":
            axis.set_ylim(0, 1.02)
    figure.supylabel("accuracy (fraction)" if measure == "accuracy" else "change of accuracy (fraction)", fontsize=9)
    handles: list[Any] = [Patch(color=_colour(i), label=name) for i, name in enumerate(conditions)]
    handles += [Line2D([], [], color="#999999", linewidth=4, label="sd over tasks")]
    handles += [Line2D([], [], color="black", linewidth=1, label="interval")]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), columnspacing=1, handlelength=1.2)
    return figure


def _panel(axes: Axes, rows: Sequence[Mapping[str, Any]], conditions: Sequence[str]) -> None:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    width = 0.8 / len(conditions)
    axes.axhline(0, color="black", linewidth=0.6)
    for row in rows:
        number = conditions.index(row["condition"])
        x = tasks.index(row["task"]) + (number - (len(conditions) - 1) / 2) * width
        axes.bar(x, row["value"], width * 0.9, color=_colour(number))
        if row["sd"] is not None:
            axes.vlines(x, row["value"] - row["sd"], row["value"] + row["sd"], color="#999999", linewidth=3)
        axes.vlines(x, row["ci_low"], row["ci_high"], color="black", linewidth=0.9)
    axes.set_xticks(range(len(tasks)), ["all tasks" if task == ALL else task for task in tasks], fontsize=8)


def _shots(number: int) -> str:
    return f"{number} shot{'s' * (number != 1)}"


def _colour(number: int) -> str:
    return CYCLE[number % len(CYCLE)]


def _marker(number: int) -> str:
    return _MARKERS[number % len(_MARKERS)]
