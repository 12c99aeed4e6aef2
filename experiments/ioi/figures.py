"""Maps of places, heads and paths, the task by template, and attention cut in windows of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.experiments.ioi.measures import ALL
from patchboard.measure.screen_summary import rank_correlation
from patchboard.report.drawing import Drawing, panels, single
from patchboard.report.drawn import joined, tidy
from patchboard.report.layer_map import Grid, Panel, map_numbers, stacked
from patchboard.report.marks import line_with_band, look_of
from patchboard.report.numbers import fraction, listed, place_label
from patchboard.report.style import CD_COLOUR, CYCLE

LABEL = "effect on logit difference (logits)"
_DOTS = " A dot marks intervals that leave out zero; none is corrected for the number of squares."

FLIPPED = "flipped: the names exchanged, the other one is right"
REORDERED = "reordered: the first two in the other order, the same one is right"


def drawings(
    summary: Mapping[str, Any], places: pl.DataFrame, heads: pl.DataFrame, screen: pl.DataFrame, cuts: pl.DataFrame
) -> Iterator[Drawing]:
    """All figures of the story."""
    caption = "Mean logit difference of the sentences as they are, with its interval, by order and by template."
    table = pl.DataFrame(summary["task"], infer_schema_length=None)
    numbers = joined([tidy(table, "difference", keep=["group"], metric="logit difference", unit="logits")])
    yield Drawing("task", "The task, by template", caption, _task(summary), numbers)
    caption = (
        "One place's state after one layer is that of the flipped sentence (below: the turned, the reordered one)."
        f" IO, S1 and S2 are the names in the text, last is the token at which the name is asked for.{_DOTS}"
    )
    yield Drawing("places", "Where the names are", caption, *_places(places))
    movers = [(str(layer), head) for layer, head in summary["movers"]]
    names = listed(f"{layer}.{head}" for layer, head in summary["movers"])
    caption = (
        f"One head's output at the last token is that of the other sentence. Outlined: {names}, the movers.{_DOTS}"
    )
    yield Drawing(
        "heads",
        "Heads at the last token",
        caption,
        *_heads(heads, {("output", "flip"): FLIPPED, ("output", "reordered"): REORDERED}, movers),
    )
    caption = (
        "The same, but only the logits are given what comes of it: no head behind it answers to the change. Outlined:"
        f" {names}.{_DOTS}"
    )
    yield Drawing(
        "paths-logits",
        "Paths from heads to the logits",
        caption,
        *_heads(heads, {("logits", "flip"): FLIPPED, ("logits", "reordered"): REORDERED}, movers),
    )
    others = listed(f"{layer}.{head}" for layer, head in summary["others"])
    caption = (
        "Paths to the queries of the movers at the last token, beside those of as many other heads. In the turned"
        " sentence the other name is right, and stands in the other place; in the reordered one the same name, in the"
        f" other place. Outlined: {names} themselves. Grey: behind all receivers.{_DOTS}"
    )
    parts = {
        ("movers", "turned"): f"from the turned sentence to the queries of {names}",
        ("others", "turned"): f"from the turned sentence to the queries of {others}",
        ("movers", "reordered"): f"from the reordered sentence to the queries of {names}",
    }
    yield Drawing("paths-movers", "Paths from heads to the movers' queries", caption, *_heads(heads, parts, movers))
    caption = (
        "Attention of the last token to one name is cut in a window of layers, drawn at its middle. Dashed: as many"
        " edges to random other tokens. Bands: bootstrap over queries."
    )
    rows = _with_middles(cuts)
    said = {"keep": ["origin", "middle"], "metric": "logit difference", "unit": "logits"}
    yield Drawing("knock-out", "Attention cut", caption, _cuts(rows), joined([tidy(rows, "effect", **said)]))

    if not screen.is_empty():
        caption = (
            "Each point is a place or a head: its effect as gradients estimate it, in one pass for all of a sentence,"
            " and as it is. On the grey line the two are equal."
        )
        numbers = tidy(screen, "estimate", keep=["part", "effect"], metric="logit difference", unit="logits")
        drawn = joined([numbers.rename({"effect": "exact effect"})])
        yield Drawing("screen", "Screen against truth", caption, _screen(screen), drawn)


def _screen(screen: pl.DataFrame) -> Figure:
    parts = screen.partition_by("part", maintain_order=True)
    titles = [f"{part['part'][0]}, rank correlation {fraction(rank_correlation(part))}" for part in parts]
    figure, axes = panels(titles, 2, height=3.0, share_x=False, share_y=False)
    for axis, part in zip(axes, parts, strict=True):
        limit = 1.05 * float(np.nanmax(np.abs(part.select("estimate", "effect").to_numpy()), initial=1e-6))
        axis.axline((0, 0), slope=1, color="#B0B0B0", linewidth=0.9, zorder=0)
        axis.plot(part["estimate"], part["effect"], linestyle="", marker="o", markersize=2.5, color=CYCLE[0])
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="estimate (logits)")
    axes[0].set_ylabel("exact effect (logits)")
    return figure


def _task(summary: Mapping[str, Any]) -> Figure:
    rows = summary["task"]
    figure, axes = single(0.5 + 0.19 * len(rows))
    for place, row in enumerate(rows):
        axes.barh(place, row["difference"], 0.7, color=CD_COLOUR if row["group"] == ALL else CYCLE[0])
        axes.hlines(place, row["ci_low"], row["ci_high"], color="black", linewidth=0.9)
    axes.set_yticks(range(len(rows)), [f"{row['group']} ({row['n']})" for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("logit difference (logits)")
    return figure


def _places(places: pl.DataFrame) -> tuple[Figure, pl.DataFrame]:
    """One panel: the places of the flipped sentence, below them those of the others, which are fewer."""
    of_flip = pl.col("source") == "flip"
    named = pl.when(of_flip).then(pl.col("position")).otherwise(pl.format("{}, {}", "position", "source"))
    rows = places.with_columns(position=named, layers=pl.col("layer").cast(pl.String))
    names = rows["position"].unique(maintain_order=True).to_list()
    return _maps([Panel("", rows, [])], names[::-1], "position")


def _heads(
    heads: pl.DataFrame, titles: Mapping[tuple[str, str], str], outlined: Sequence[tuple[str, int]]
) -> tuple[Figure, pl.DataFrame]:
    rows = heads.with_columns(pl.col("layer").cast(pl.String).alias("layers"))
    parts = [
        Panel(title, rows.filter(pl.col("what") == what, pl.col("source") == source), list(outlined))
        for (what, source), title in titles.items()
    ]
    return _maps(parts, heads["head"].unique().sort().to_list(), "head", heads["layer"].unique().sort().to_list())


def _maps(
    parts: Sequence[Panel], places: list[Any], field: Any, layers: list[int] | None = None
) -> tuple[Figure, pl.DataFrame]:
    """The figure and its numbers."""
    every = pl.concat([part.rows.select("layer", "effect") for part in parts])
    largest = every["effect"].fill_nan(None).abs().max()
    limit = float(largest) if isinstance(largest, float) and largest > 0 else 1.0
    columns = [str(layer) for layer in layers or every["layer"].unique().sort().to_list()]
    figure = stacked(parts, Grid(columns, places, 1, limit, field), LABEL)
    return figure, map_numbers(parts, "logit difference", "logits")


def _with_middles(cuts: pl.DataFrame) -> pl.DataFrame:
    """With the middle of each window of layers, by which the rows are sorted."""
    blocks = pl.col("layers").str.split(",").cast(pl.List(pl.Int32))
    return cuts.with_columns(middle=(blocks.list.first() + blocks.list.last()) / 2).sort("middle")


def _cuts(rows: pl.DataFrame) -> Figure:
    figure, (axes,) = panels([""], 1, height=2.6, share_y=True)
    axes.axhline(0, color="black", linewidth=0.8)
    origins = rows["origin"].unique(maintain_order=True).sort().to_list()
    for number, origin in enumerate(origins):
        own = rows.filter(pl.col("origin") == origin)
        look = look_of(number)
        line_with_band(
            axes, own.filter(pl.col("control") == ""), ("middle", "effect"), markersize=3.5, linewidth=1.4, **look
        )
        dashed = {"color": look["color"], "linestyle": "--", "linewidth": 0.9}
        axes.plot(*own.filter(pl.col("control") != "").select("middle", "effect").to_numpy().T, **dashed)
    windows = rows.unique("layers", keep="first", maintain_order=True)
    middles = windows["middle"].to_list()
    gaps = [after - middle for middle, after in zip(middles, middles[1:], strict=False)]
    labels = [place_label(layers) for layers in windows["layers"]]
    # the last window may overlap the one before it by more than others do, and its label would lie on that one's
    told = ["" if gap < max(gaps) else label for gap, label in zip(gaps, labels, strict=False)] + labels[-1:]
    axes.set_xticks(middles, told)
    axes.set_xlabel("layers in which it is cut")
    axes.set_ylabel(LABEL)
    handles: list[Any] = [Line2D([], [], label=f"to {o}", markersize=4, **look_of(n)) for n, o in enumerate(origins)]
    handles.append(Line2D([], [], color="black", linestyle="--", linewidth=0.9, label="to as many random tokens"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure
