"""Faithfulness over the number of heads that are kept: a curve for the ranking, and one for random sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from patchboard.report.circuits import title_of
from patchboard.report.drawing import Drawing, columns_for, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import level_line
from patchboard.report.run_files import Run
from patchboard.report.style import in_order, line_of

_AT_ONCE = 8
"""Panels of one figure."""


def faithfulness_figures(run: Run) -> Iterator[Drawing]:
    """One panel per intervention that keeps heads, and setting; none without such interventions."""
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for entry in run.summary.get("faithfulness", ()):
        if entry["cpr"]["value"] is not None:
            parts.setdefault(title_of(entry), []).append(entry)
    titles = list(parts)
    caption = (
        f"The mean {run.metric} with so many heads kept and all others edited: 0 as with none kept, 1 as without an"
        " edit. Bands are bootstrap intervals of that ratio over queries. CPR is the area below the curve over the"
        " share of heads, CMD the area between it and 1. A ranking is worth what it has beyond random sets."
    )
    for number, start in enumerate(range(0, len(titles), _AT_ONCE), start=1):
        some = titles[start : start + _AT_ONCE]
        across = columns_for(some)
        figure, axes = panels(some, across, height=2.3, share_y=True)
        for axis, title in zip(axes, some, strict=True):
            _panel(axis, parts[title])
        for axis in axes[-across:]:
            axis.set_xlabel(f"heads kept, of {parts[some[0]][0]['heads']}")
        for axis in axes[::across]:
            axis.set_ylabel("faithfulness")
        controls = in_order({entry["control"] for title in some for entry in parts[title]})
        handles = [
            Line2D([], [], color=style.colour, linestyle=style.dashes, marker=style.marker, markersize=4,
                   linewidth=style.width, label=control or "the ranking")
            for control in controls for style in (line_of(control),)
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        name = "faithfulness" + (f"-{number}" if len(titles) > _AT_ONCE else "")
        numbers = joined(
            [
                tidy(pl.DataFrame(entry["curve"]), "faithfulness", panel=title, control=entry["control"], keep=["kept"],
                     metric=f"faithfulness on {run.metric}", unit="fraction")
                for title in some for entry in parts[title]
            ]
        )  # fmt: skip
        yield Drawing(name, "Faithfulness by number of heads kept", caption, figure, numbers)


def _panel(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    for level in (0, 1):
        level_line(axes, level, color="black", linewidth=0.8, linestyle="-" if level == 0 else ":")
    for entry in reversed(entries):  # the ranking itself on top
        style, curve = line_of(entry["control"]), entry["curve"]
        x, y, low, high = ([point[name] for point in curve] for name in ("kept", "faithfulness", "ci_low", "ci_high"))
        axes.plot(x, y, style.dashes, color=style.colour, marker=style.marker, markersize=3.5, linewidth=style.width)
        axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0)
    axes.set_xscale("symlog", linthresh=1)  # most happens within the first few heads
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    sizes = [point["kept"] for point in entries[0]["curve"]]
    apart = [size for size, next_one in zip(sizes, sizes[1:], strict=False) if next_one >= 1.5 * size]
    axes.set_xticks([*apart, sizes[-1]])  # labels of nearer ones would touch
    axes.minorticks_off()
