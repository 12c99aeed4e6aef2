"""A screen's estimates against the exact effects of the cells that ran: one panel an intervention."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from patchboard.measure.screen import KEPT, SAMPLED, against_exact, interventions_of
from patchboard.measure.screen_summary import rank_correlation
from patchboard.report.drawing import MOST_PANELS, Drawing, columns_for, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import Look
from patchboard.report.numbers import fraction
from patchboard.report.run_files import Run
from patchboard.report.style import CYCLE, effect_label, unit_of

_LOOKS: dict[str, Look] = {KEPT: {"color": CYCLE[0], "marker": "o"}, SAMPLED: {"color": CYCLE[1], "marker": "^"}}
"""What became of a cell -> how it is drawn; told apart in grey print by the marker."""


def screen_figures(run: Run) -> Iterator[Drawing]:
    """A point a cell of a task, over all swept settings; none without a screen."""
    if run.screen.is_empty():
        return
    rows = against_exact(run.screen, run.effects).filter(pl.col("effect").is_finite(), pl.col("estimate").is_finite())
    parts = list(interventions_of(rows).items())
    metric = run.screen["metric"][0]
    level = run.summary["level"]
    caption = (
        "Each point is a cell of one task that was screened and then run: its estimate by gradients, and its exact"
        " effect on the same queries. Kept are those of the largest estimates, sampled are random ones of the others:"
        " these alone say how the estimates of all others rank. On the grey line the two are equal; far off it an"
        f" effect is no longer linear in the state. Bars: {100 * level:.2g} % intervals of the estimates over queries."
        " Both axes are linear near zero and logarithmic beyond."
    )
    across = columns_for(parts)
    for start in range(0, len(parts), MOST_PANELS):
        some = parts[start : start + MOST_PANELS]
        titles = [f"{name}, {_ranked(table)}" for name, table in some]
        figure, axes = panels(titles, across, height=2.6, share_x=False, share_y=False)
        for axis, (_, table) in zip(axes, some, strict=True):
            _panel(axis, table)
        for axis in axes[-across:]:
            axis.set_xlabel(f"estimate: {effect_label(metric)}")
        figure.supylabel(f"exact {effect_label(metric)}")
        handles = [Line2D([], [], linestyle="", markersize=4, label=name, **look) for name, look in _LOOKS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
        name = "screen" + (f"-{start // MOST_PANELS + 1}" if len(parts) > MOST_PANELS else "")
        said = {"metric": metric, "unit": unit_of(metric)}
        numbers = joined([tidy(table, "estimate", keep=["chosen", "effect"], **said) for _, table in some])
        numbers = numbers.rename({"effect": "exact effect"})
        yield Drawing(name, "Estimates of the screen against exact effects", caption, figure, numbers)


def _ranked(table: pl.DataFrame) -> str:
    sample = rank_correlation(table.filter(pl.col("chosen") == SAMPLED))
    return f"rank correlation {fraction(rank_correlation(table))} (of the sample {fraction(sample)})"


def _panel(axes: Axes, table: pl.DataFrame) -> None:
    values = np.abs(table.select("estimate", "effect").to_numpy())
    largest = float(values.max(initial=0.0)) or 1.0
    linear = max(float(np.median(values)) if len(values) else 0.0, largest / 1e3)
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_yscale("symlog", linthresh=linear)
    limit = largest * 1.3
    axes.axline((0, 0), (limit, limit), color="#B0B0B0", linewidth=0.9, zorder=0)
    for chosen, look in _LOOKS.items():
        rows = table.filter(pl.col("chosen") == chosen)
        x, y, low, high = (rows[name].to_numpy() for name in ("estimate", "effect", "ci_low", "ci_high"))
        axes.hlines(y, low, high, color=look["color"], linewidth=0.5, alpha=0.35)
        axes.plot(x, y, linestyle="", markersize=3.2, alpha=0.8, **look)
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
