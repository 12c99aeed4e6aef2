"""Conditions side by side: CD by layer, and accuracy by task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from patchboard.measure.decodability import ALL
from patchboard.report.drawing import Drawing, panels, whole_layers
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import bar_key, grouped_bars, key_of, line_with_band, look_of
from patchboard.report.numbers import counted
from patchboard.report.style import CD_COLOUR, CYCLE


def drawings(summary: Mapping[str, Any], decodability: Mapping[str, pl.DataFrame]) -> Iterator[Drawing]:
    """All figures of a comparison. decodability: condition -> its table, the base's first."""
    caption = (
        "CD of all labels, Null among them; a panel a number of demonstrations. Bands: bootstrap over points. Dotted:"
        f" chance. The upright line is layer {summary['layer']}, where the conditions are compared: the first one's"
        f" best at {summary['shots']} shots."
    )
    overall = {name: table.filter(pl.col("task") == ALL) for name, table in decodability.items()}
    said = {"metric": "CD", "unit": "fraction", "keep": ["chance"]}
    numbers = joined([tidy(table, "cd", condition=name, **said) for name, table in overall.items()])
    yield Drawing("cd", "CD by layer", caption, _cd(decodability, summary["layer"]), numbers)
    caption = (
        "Accuracy of the clean prompt by task; over all tasks their mean, with its standard deviation in grey. Black:"
        " bootstrap over queries within tasks."
    )
    yield Drawing("accuracy", "Accuracy by task", caption, *_bars(summary, "accuracy"))
    caption = f"What the vector adds to accuracy at layer {summary['layer']}. Bars and lines as above."
    for name in dict.fromkeys(row["intervention"] for row in summary["compared"] if row["measure"] == "effect"):
        yield Drawing(f"effect-{name}", f"Effect of {name} by task", caption, *_bars(summary, "effect", name))


def _cd(decodability: Mapping[str, pl.DataFrame], layer: int) -> Figure:
    base = next(iter(decodability.values()))
    shots = base["shots"].unique().sort().to_list()
    figure, axes = panels([counted(each, "shot") for each in shots], min(4, len(shots)), height=2.0, share_y=True)
    for axis, each in zip(axes, shots, strict=True):
        axis.axhline(base["chance"][0], color=CD_COLOUR, linestyle=":", linewidth=1)
        axis.axvline(layer, color=CD_COLOUR, linewidth=0.6)
        for number, table in enumerate(decodability.values()):
            cd = table.filter(pl.col("task") == ALL, pl.col("shots") == each).sort("layer")
            line_with_band(axis, cd, ("layer", "cd"), markersize=3.5, linewidth=1.2, **look_of(number))
            whole_layers(axis, cd["layer"].to_numpy())
        axis.set_ylim(-0.02, 1.02)
    figure.supxlabel("layer")
    figure.supylabel("CD")
    handles = key_of(decodability)
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _bars(summary: Mapping[str, Any], measure: str, intervention: str = "") -> tuple[Figure, pl.DataFrame]:
    """The figure and its numbers."""
    rows = [r for r in summary["compared"] if (r["measure"], r["intervention"]) == (measure, intervention)]
    shots = sorted({row["shots"] for row in rows})
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    colours = {name: CYCLE[number % len(CYCLE)] for number, name in enumerate(conditions)}
    figure, axes = panels([counted(each, "shot") for each in shots], 1, height=1.9, share_y=True)
    for axis, each in zip(axes, shots, strict=True):
        of_shots = [row for row in rows if row["shots"] == each]
        tasks = list(dict.fromkeys(row["task"] for row in of_shots))
        axis.axhline(0, color="black", linewidth=0.6)
        grouped_bars(axis, of_shots, tasks, colours, ("task", "condition", "value"))
        axis.set_xticks(range(len(tasks)), ["all tasks" if task == ALL else task for task in tasks])
        if measure == "accuracy":
            axis.set_ylim(0, 1.02)
    figure.supylabel("accuracy (fraction)" if measure == "accuracy" else "change of accuracy (fraction)")
    bar_key(figure, colours, "sd over tasks")
    metric = "accuracy" if measure == "accuracy" else "change of accuracy"
    table = pl.DataFrame(rows, infer_schema_length=None)
    return figure, joined([tidy(table, "value", keep=["sd"], metric=metric, unit="fraction")])
