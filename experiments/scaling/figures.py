"""Everything against both counts of parameters, and the error rate with its power law."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.experiment.sizes import ACCURACY, CD
from patchboard.experiments.scaling.findings import COUNT_NAMES, label, short
from patchboard.report.drawing import Drawing, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import ACCURACY_LOOK, CD_LOOK, effect_look
from patchboard.report.style import CD_COLOUR, CYCLE, effect_label

_LOOKS = {CD: CD_LOOK, ACCURACY: ACCURACY_LOOK}
_MOST_NAMED = 8
"""Models whose names fit above a panel."""


def drawings(summary: Mapping[str, Any], table: pl.DataFrame) -> Iterator[Drawing]:
    """All figures. table: sizes.SIZED."""
    caption = (
        f"CD of the best layer (dotted: chance), accuracy, and {effect_label(summary['metric'])} at the layer chosen on"
        " the other half of the queries; thin: random vectors of the same norm. The same values on both sides, against"
        " all parameters and against those that do not embed. Bars: bootstrap over prompts or queries."
    )
    renamed = table.rename({"measure": "metric", "low": "ci_low", "high": "ci_high"})
    numbers = joined([tidy(renamed, "value", keep=["metric", *COUNT_NAMES])])
    yield Drawing("sizes", "CD, accuracy and effect against size", caption, _sizes(summary, table), numbers)
    if any(summary["exponents"].values()):
        caption = "Share of wrong answers on two log axes, and the least-squares line: error ~ N^-a."
        yield Drawing("error", "Error rate against size", caption, *_errors(summary, table))


def _sizes(summary: Mapping[str, Any], table: pl.DataFrame) -> Figure:
    """CD and accuracy above, effects, which may have another unit, below; a column a count."""
    names = [name for name in table["measure"].unique(maintain_order=True) if name not in (CD, ACCURACY)]
    rows = [[CD, ACCURACY], names] if names else [[CD, ACCURACY]]
    figure, axes = panels(["", ""] * len(rows), 2, height=2.3, share_y=False)
    handles: dict[str, Line2D] = {}
    for number, axis in enumerate(axes):
        count, shown = list(COUNT_NAMES)[number % 2], rows[number // 2]
        part = table.filter(pl.col("measure").is_in(shown))
        for (measure, control, shots), own in part.group_by("measure", "control", "shots", maintain_order=True):
            what = str(measure), str(control), int(str(shots))
            handles[label(*what)] = _line(axis, own.sort(count), count, names, what)
        _size_axis(axis, table, count, named=number < 2, last=number >= len(axes) - 2)
    for axis in axes[:2]:
        axis.axhline(summary["chance"], color=CD_COLOUR, linestyle=":", linewidth=0.8)
        axis.set_ylim(-0.02, 1.05)
    for axis in axes[2:]:
        axis.axhline(0, color="black", linewidth=0.8)
        axis.sharey(axes[2])
    axes[0].set_ylabel("CD, accuracy (fraction)")
    if names:
        axes[2].set_ylabel(effect_label(summary["metric"]))
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=min(4, len(handles)))
    return figure


def _line(axis: Axes, part: pl.DataFrame, count: str, names: list[str], what: tuple[str, str, int]) -> Line2D:
    measure, control, _ = what
    look = effect_look(names.index(measure), control) if measure in names else _LOOKS[measure]
    axis.vlines(part[count], part["low"], part["high"], color=look["color"], linewidth=1.0, alpha=0.7)
    width = 0.9 if control else 1.4
    (line,) = axis.plot(part[count], part["value"], markersize=4, linewidth=width, label=label(*what), **look)
    return line


def _size_axis(axis: Axes, table: pl.DataFrame, count: str, named: bool, last: bool) -> None:
    """Log size, labelled below the last row; the models' names above the first."""
    axis.set_xscale("log")
    if last:
        axis.set_xlabel(COUNT_NAMES[count])
    models = table.unique(["model", "revision"], maintain_order=True).sort(count)
    if named and len(models) <= _MOST_NAMED:
        above = axis.secondary_xaxis("top")
        names = [short(model, revision) for model, revision in models.select("model", "revision").rows()]
        # names end at their points: to the right of the largest model there is no room
        above.set_xticks(models[count].to_list(), names, rotation=-30, ha="right")
        above.set_xticks([], minor=True)
        above.spines["top"].set_visible(False)


def _errors(summary: Mapping[str, Any], table: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """The figure and its numbers."""
    figure, axes = panels(["", ""], 2, height=2.8, share_y=True)
    rows = table.filter(pl.col("measure") == ACCURACY)
    numbers = []
    for axis, count in zip(axes, COUNT_NAMES, strict=True):
        part = rows.sort(count).filter(pl.col("value") < 1)
        sizes = part[count].to_numpy()
        # an interval that reaches no error at all would have no end on a log axis
        lowest = np.maximum(1 - part["high"].to_numpy(), 0.5 / part["n"].to_numpy())
        wrong = part.with_columns(
            wrong=1 - pl.col("value"), ci_low=pl.Series(lowest), ci_high=1 - pl.col("low"), against=pl.lit(count)
        )
        axis.vlines(sizes, lowest, wrong["ci_high"], color=CYCLE[0], alpha=0.7)
        axis.plot(sizes, wrong["wrong"], "o", color=CYCLE[0], markersize=4)
        said = {"metric": "wrong answers", "unit": "fraction", "keep": ["against", count]}
        numbers.append(tidy(wrong, "wrong", **said))
        axis.set_yscale("log")
        _size_axis(axis, part, count, named=True, last=True)
        fit = summary["exponents"][count]
        if fit is not None:
            ends = np.array([sizes.min(), sizes.max()], dtype=float)
            text = f"a = {fit['exponent']:.2f}, n = {fit['n']}"
            line = pl.DataFrame({count: ends, "wrong": np.exp(fit["intercept"]) * ends ** -fit["exponent"]})
            axis.plot(ends, line["wrong"], color="black", label=text)
            numbers.append(tidy(line.with_columns(against=pl.lit(count)), "wrong", series="power law", **said))
            axis.legend(loc="lower left")
    axes[0].set_ylabel("wrong answers (fraction)")
    return figure, joined(numbers)
