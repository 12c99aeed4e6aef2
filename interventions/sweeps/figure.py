"""A figure over a sweep: each intervention's effect at its best layer against a parameter, with CD there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from patchboard.report.drawing import Drawing, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.figure_files import write_figure
from patchboard.report.style import CD_COLOUR, CYCLE, effect_label, styled, unit_of

_MOST_LINES = len(CYCLE)


def draw_sweep(table: pl.DataFrame, varied: list[str], folder: Path, formats: Sequence[str]) -> bool:
    """Write ``sweep.png``, the same in other formats and ``sweep.csv``; False, and no file, where no point of the table
    has an effect.

    The parameter with most values is the x axis; another one with few values makes lines, as in a grid of two.
    Where more vary, points of one x stand side by side for what else differs.
    """
    known = table.filter(pl.col("status") == 0, pl.col("effect").is_not_null())
    if known.is_empty() or not varied:
        return False
    counts = {name: known[name].n_unique() for name in varied}
    across = max(varied, key=lambda name: (counts[name], known[name].dtype.is_numeric()))
    others = [name for name in varied if name != across and 1 < counts[name] <= _MOST_LINES]
    lines = others[0] if len(others) == 1 and len(varied) == 2 else None
    parts = known.partition_by("intervention", "setting", maintain_order=True)
    columns = min(2, len(parts))
    with styled():
        figure, axes = panels([_title(part) for part in parts], columns, height=2.4, share_y=True)
        for number, (axis, part) in enumerate(zip(axes, parts, strict=True), start=1):
            _panel(axis, part, across, lines, name_cd=number % columns == 0 or number == len(parts))
        for axis in axes[-columns:]:
            axis.set_xlabel(across)
        for axis in axes[::columns]:
            axis.set_ylabel(effect_label(known["metric"][0]))
        handles, labels = axes[0].get_legend_handles_labels()
        cd = Line2D(
            [], [], color=CD_COLOUR, linestyle="--", marker="x", markersize=4, label="CD at that layer (right axis)"
        )
        figure.legend(handles=[*handles, cd], loc="outside lower center", ncols=min(5, len(labels) + 1))
        metric = known["metric"][0]
        effects = tidy(known, "effect", keep=varied, metric=metric, unit=unit_of(metric))
        decoded = tidy(known, "cd", "", keep=varied, metric="CD at that layer", unit="fraction")
        caption = "Each intervention's effect at its best layer against a parameter, with CD there."
        write_figure(folder, Drawing("sweep", "The sweep", caption, figure, joined([effects, decoded])), formats)
    return True


def _title(part: pl.DataFrame) -> str:
    row = part.row(0, named=True)
    return ", ".join(filter(None, (row["intervention"], row["setting"])))


def _panel(axes: Axes, part: pl.DataFrame, across: str, lines: str | None, name_cd: bool) -> None:
    """Effects with their intervals on the left axis; CD at the same layers, dashed in the same colour, on the right."""
    axes.axhline(0, color="black", linewidth=0.8)
    x_of = _places(axes, part[across])
    right = _cd_axis(axes, name_cd) if part["cd"].is_not_null().any() else None
    for number, group in enumerate(part.partition_by(lines, maintain_order=True) if lines else [part]):
        group = group.with_columns(pl.Series("x", [float(x_of(value)) for value in group[across]])).sort("x")
        x, y, low, high, cd = (group[name].to_numpy() for name in ("x", "effect", "ci_low", "ci_high", "cd"))
        joined = bool(group["x"].is_unique().all())
        name = f"{lines.rsplit('.', 1)[-1]} = {group[lines][0]}" if lines else "effect at the best layer"
        colour = CYCLE[number % len(CYCLE)]
        axes.errorbar(
            x, y, (y - low, high - y), fmt="o-" if joined else "o", label=name,
            color=colour, markersize=4, linewidth=1.4,
        )  # fmt: skip
        if right:
            right.plot(
                x, cd, "x--" if joined else "x", color=colour if lines else CD_COLOUR, markersize=4, linewidth=0.9
            )


def _cd_axis(axes: Axes, named: bool) -> Axes:
    right = axes.twinx()
    right.set_ylim(0, 1.03)
    right.spines["right"].set_visible(True)
    right.spines["right"].set_color(CD_COLOUR)
    right.tick_params(axis="y", colors=CD_COLOUR)
    right.set_ylabel("CD" if named else "", color=CD_COLOUR)
    axes.set_zorder(right.get_zorder() + 1)  # the effect is drawn over CD
    axes.patch.set_visible(False)
    return right


def _places(axes: Axes, values: pl.Series) -> Callable[[Any], float]:
    """Value -> x: itself, or for text its number in order of appearance, which ticks then name."""
    if values.dtype.is_numeric():
        return float
    names = values.unique(maintain_order=True).to_list()
    axes.set_xticks(range(len(names)), [str(name)[:24] for name in names], rotation=20, ha="right")
    return names.index
