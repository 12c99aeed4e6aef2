"""AIE as a map of layer by head, and accuracy at 0 shots with each vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from patchboard.experiments.heads.findings import label_of
from patchboard.experiments.heads.vectors import ADDED, ALL, PATCHED
from patchboard.report.drawing import Drawing, panels, single
from patchboard.report.drawn import joined, tidy
from patchboard.report.layer_map import Grid, Panel, map_numbers, stacked
from patchboard.report.marks import bar_key, grouped_bars
from patchboard.report.style import CD_COLOUR, CYCLE, effect_label, line_of

_COLOURS = {
    "no vector": CD_COLOUR,
    "top heads": line_of("").colour,
    "random heads": line_of("random").colour,
    "random vector": CYCLE[5],
    ADDED: line_of("other_task").colour,
    PATCHED: CYCLE[3],
}
_CHANGE = "effect", "effect"
"""Of a change of log-probability: the column of the value, and how those of its interval begin."""


def drawings(summary: Mapping[str, Any], effects: pl.DataFrame) -> Iterator[Drawing]:
    """All figures of an experiment."""
    for metric in effects["metric"].unique(maintain_order=True):
        of_metric = effects.filter(pl.col("metric") == metric)
        caption = (
            f"Mean {effect_label(metric)} of putting one head at its mean, on odd queries of prompts that do not tell"
            " the task. A dot marks intervals that leave out zero. Outlined: the"
            f" {max(summary['top'])} best heads by {summary['metric']} on even queries, from which function vectors are"
            " made. Random vector: one of the mean's norm instead."
        )
        drawn = _maps(summary, of_metric, metric)
        yield Drawing(f"aie-{metric}", f"Average indirect effect on {metric}", caption, *drawn)
    caption = (
        "Accuracy on prompts without demonstrations. Dotted: without a vector. Lines: bootstrap over queries within"
        " tasks. The layer of each vector is chosen on even queries, accuracy is of odd ones."
    )
    overall = [row for row in summary["vectors"] if row["task"] == ALL]
    title = "Function vectors beside the mean task vector, at 0 shots"
    yield Drawing("vectors", title, caption, _bars(overall), _numbers(overall, "accuracy", "ci"))
    if summary["logprobs"]:
        caption = (
            "Change of the answer's log-probability on prompts without demonstrations, in nats: it moves also where a"
            " model answers none of them. Layers are chosen by it on even queries, bars are of odd ones."
        )
        rows = [row for row in summary["logprobs"] if row["task"] == ALL and row["condition"] != "no vector"]
        yield Drawing("logprobs", "The same by log-probability", caption, _changes(rows), _numbers(rows, *_CHANGE))
    caption = "Accuracy as above, by task, with the function vector of the most heads."
    most = max(summary["top"])
    rows = [row for row in summary["vectors"] if row["task"] != ALL and row["heads"] in (None, most)]
    drawn = _numbers(rows, "accuracy", "ci")
    yield Drawing("vectors-by-task", "The same by task", caption, _by_task(rows), drawn)


def _numbers(rows: Sequence[Mapping[str, Any]], value: str, bounds: str) -> pl.DataFrame:
    """What the bars of these rows show."""
    keys = ("task", value, f"{bounds}_low", f"{bounds}_high", "n")
    told = [{key: row[key] for key in keys if key in row} | {"condition": label_of(row)} for row in rows]
    return joined([tidy(pl.DataFrame(told), value, bounds, metric=value)])


def _maps(summary: Mapping[str, Any], effects: pl.DataFrame, metric: str) -> tuple[Figure, pl.DataFrame]:
    """The figure and its numbers."""
    rows = effects.with_columns(pl.col("layer").cast(pl.String).alias("layers"))
    best = rows.filter(pl.col("rank") <= max(summary["top"]))
    outlined = list(zip(best["layers"], best["head"], strict=True))
    parts = [Panel("mean of the task's own prompts", rows, outlined)]
    if effects["random"].null_count() < effects.height:
        random = rows.with_columns(effect="random", ci_low="random_low", ci_high="random_high")
        parts.append(Panel("random vector", random, outlined))
    largest = pl.concat([part.rows["effect"] for part in parts]).fill_nan(None).abs().max()
    limit = float(largest) if isinstance(largest, float) and largest > 0 else 1.0
    columns = [str(layer) for layer in effects["layer"].unique().sort()]
    grid = Grid(columns, effects["head"].unique().sort().to_list(), 1, limit)
    return stacked(parts, grid, effect_label(metric)), map_numbers(parts, metric)


def _bars(rows: Sequence[Mapping[str, Any]]) -> Figure:
    none = next(row for row in rows if row["condition"] == "no vector")
    figure, axes = _conditions(rows, "accuracy", "ci", "accuracy at 0 shots (fraction)")
    axes.axvline(none["accuracy"], color="black", linestyle=":", linewidth=0.8)
    axes.set_xlim(0, 1.02)
    return figure


def _changes(rows: Sequence[Mapping[str, Any]]) -> Figure:
    figure, axes = _conditions(rows, *_CHANGE, "change of log-probability at 0 shots (nats)")
    axes.axvline(0, color="black", linewidth=0.8)
    return figure


def _conditions(rows: Sequence[Mapping[str, Any]], value: str, bounds: str, label: str) -> tuple[Figure, Axes]:
    """A bar each, from above to below, with the interval ``{bounds}_low`` to ``{bounds}_high``."""
    figure, axes = single(0.5 + 0.2 * len(rows))
    for place, row in enumerate(rows):
        axes.barh(place, row[value], 0.7, color=_COLOURS[row["condition"]])
        axes.hlines(place, row[f"{bounds}_low"], row[f"{bounds}_high"], color="black", linewidth=0.9)
    axes.set_yticks(range(len(rows)), [label_of(row) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    return figure, axes


def _by_task(shown: Sequence[Mapping[str, Any]]) -> Figure:
    rows = [{**row, "label": label_of(row)} for row in shown]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    colours = {row["label"]: _COLOURS[row["condition"]] for row in rows}
    figure, (axes,) = panels([""], 1, height=2.3, share_y=True)
    grouped_bars(axes, rows, tasks, colours, ("task", "label", "accuracy"), width=0.84, line=0.8)
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("accuracy (fraction)")
    bar_key(figure, colours, columns=4, line=0.9)
    return figure
