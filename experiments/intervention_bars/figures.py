"""Accuracy by task and condition with both error bars, and the matrices of source against target."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from patchboard.experiments.intervention_bars.findings import BY
from patchboard.report.drawing import Drawing, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.margins import Margins
from patchboard.report.marks import bar_key, grid_of, grouped_bars, heat_map
from patchboard.report.numbers import counted
from patchboard.report.style import CD_COLOUR, WIDTH, line_of

_CONDITIONS = {
    "unperturbed": CD_COLOUR,
    "positive": line_of("").colour,
    "negative": line_of("other_task").colour,
    "random": line_of("random").colour,
}
_MATRICES = {"accuracy": "change of accuracy", "conversion": "conversion to the source"}


def drawings(bars: pl.DataFrame, matrix: pl.DataFrame) -> Iterator[Drawing]:
    """All figures of an experiment."""
    caption = (
        "Accuracy with the state at the last token as it is, and edited with the task's own mean, with Null's, and with"
        " a random vector of the own mean's norm. Grey line: standard deviation over seeds, the paper's error bar."
        " Black line: bootstrap over queries within seeds."
    )
    numbers = joined([tidy(bars, "mean", keep=["chosen_by", "sd"], metric="accuracy", unit="fraction")])
    yield Drawing("bars", "Interventions by task", caption, _bars(bars), numbers)
    for by in BY:
        own = matrix.filter(pl.col("chosen_by") == by)
        layer = own["layer"][0]
        caption = (
            "Rows: whose mean the edit uses; columns: whose prompts. Left: edited - clean. Right: share of prompts"
            " answered as the row's task would answer, where the two tasks disagree. A vector that carries its task"
            " raises the diagonal on the left and all of its row on the right. Null has no answer to convert to."
        )
        title = f"Every task's mean on every task, layer {layer} ({BY[by]})"
        numbers = own.with_columns(metric=pl.col("measure").replace_strict(_MATRICES, default=pl.col("measure")))
        drawn = joined([tidy(numbers, "mean", keep=["source", "target", "metric"])])
        yield Drawing(f"matrix-{by}", title, caption, _matrices(own), drawn)


def _bars(bars: pl.DataFrame) -> Figure:
    parts = bars.partition_by("chosen_by", "shots", maintain_order=True)
    parts.sort(key=lambda part: (list(BY).index(part["chosen_by"][0]), part["shots"][0]))
    titles = [f"layer {p['layer'][0]} ({BY[p['chosen_by'][0]]}), {counted(p['shots'][0], 'shot')}" for p in parts]
    figure, axes = panels(titles, 2 if len(parts) > 2 else 1, height=1.9, share_y=True)
    for axis, part in zip(axes, parts, strict=True):
        tasks = part["task"].unique(maintain_order=True).to_list()
        # a colour at a time, as bars overlap at their edges
        rows = [row for name in _CONDITIONS for row in part.filter(pl.col("condition") == name).to_dicts()]
        grouped_bars(axis, rows, tasks, _CONDITIONS, ("task", "condition", "mean"))
        axis.set_xticks(range(len(tasks)), tasks, rotation=30, ha="right")
        axis.set_ylim(0, 1.02)
    figure.supylabel("accuracy (fraction)")
    bar_key(figure, _CONDITIONS, "sd over seeds")
    return figure


def _matrices(matrix: pl.DataFrame) -> Figure:
    shots = matrix["shots"].unique().sort().to_list()
    sources = matrix["source"].unique(maintain_order=True).to_list()
    targets = matrix["target"].unique(maintain_order=True).to_list()
    sources = [task for task in targets if task in sources] + [task for task in sources if task not in targets]
    figure = Figure(figsize=(WIDTH, (0.9 + 0.32 * len(sources)) * len(shots)), layout=Margins())
    grid = figure.subplots(len(shots), len(_MATRICES), squeeze=False)
    for row, each in zip(grid, shots, strict=True):
        for axes, (measure, title) in zip(row, _MATRICES.items(), strict=True):
            part = matrix.filter(pl.col("shots") == each, pl.col("measure") == measure)
            _heat_map(axes, part, sources, targets)
            axes.set_title(f"{title}, {counted(each, 'shot')}")
    figure.supxlabel("prompts of")
    figure.supylabel("mean of")
    return figure


def _heat_map(axes: Axes, part: pl.DataFrame, sources: list[str], targets: list[str]) -> None:
    grid = grid_of(part, sources, targets, ("source", "target", "mean"))
    if "accuracy" in part["measure"]:
        heat_map(axes, grid, (-1, 1), "RdBu", text_of="{:+.2f}".format)
    else:
        heat_map(axes, grid, (0, 1), text_of="{:.2f}".format)
    axes.set_xticks(range(len(targets)), targets, rotation=30, ha="right")
    axes.set_yticks(range(len(sources)), sources)
