"""Margins by count, strength, distance and length, and the heads by place: small multiples, a line for each model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from patchboard.experiments.hijack.settings import HijackSettings
from patchboard.report.drawing import Drawing, panels
from patchboard.report.drawn import joined, tidy
from patchboard.report.marks import key_of, line_with_band, look_of
from patchboard.report.style import CD_COLOUR

_MARGIN = "logit(b) - logit(c), nats"

Panel = tuple[str, pl.DataFrame]


def drawings(settings: HijackSettings, margins: pl.DataFrame, places: pl.DataFrame) -> Iterator[Drawing]:
    """All figures of an experiment."""
    trained, all_strengths = settings.training.length, pl.col("strength").is_null()
    counts = margins.filter(pl.col("kind") == "count")
    parts = [("all tokens", counts.filter(all_strengths))]
    parts += [(f"P(c | a) = {s:g}", counts.filter(pl.col("strength") == s)) for s in settings.language.strengths]
    caption = (
        f"Prompts of {trained} tokens in which a is followed by b so many times, and which end with a; training taught"
        " that c follows a. Above the black line the context wins, below it the bigram. Grey: an observer who knows how"
        " sequences are made; it leaves the panels upwards. Bands: bootstrap over prompts."
        " A line for each trained model."
    )
    figure = _margins(settings, parts, "count", "times that the prompt shows a b", ideal=True, columns=3)
    yield Drawing("count", "Margin by count and strength of the bigram", caption, figure, _numbers(parts, "count"))

    kinds = {"near": f"pairs in the last {settings.near} tokens", "spread": "pairs anywhere"}
    parts = [(title, margins.filter(pl.col("kind") == kind, all_strengths)) for kind, title in kinds.items()]
    figure = _margins(settings, parts, "length", "tokens of the prompt", ideal=False, columns=2, limit=trained)
    caption = (
        f"Prompts of other lengths, with {settings.prompts.shown} pairs a b. The dotted line is the training length:"
        " to its right, places that training never had. On the left the pairs stand near the end, on the right"
        " anywhere, so that few of them stand beyond the line."
    )
    yield Drawing("length", "Margin by length of the prompt", caption, figure, _numbers(parts, "length"))

    parts = [("one pair", margins.filter(pl.col("kind") == "distance", all_strengths))]
    figure = _margins(settings, parts, "distance", "tokens from the pair to the end", ideal=True, columns=1)
    caption = f"Prompts of {trained} tokens with one pair a b, so far before the end."
    yield Drawing("distance", "Margin by distance", caption, figure, _numbers(parts, "distance"))

    yield _places(settings, places)


def _numbers(parts: Sequence[Panel], x: str) -> pl.DataFrame:
    """What ``_margins`` draws."""
    said = {"keep": ["positions", x, "ideal"], "metric": _MARGIN.removesuffix(", nats"), "unit": "nats"}
    return joined([tidy(table, "margin", panel=title, **said) for title, table in parts])


def _margins(
    settings: HijackSettings,
    parts: Sequence[Panel],
    x: str,
    label: str,
    ideal: bool,
    columns: int,
    limit: int | None = None,
) -> Figure:
    figure, axes = panels([title for title, _ in parts], columns, height=2.0, share_y=True)
    for axis, (_, table) in zip(axes, parts, strict=True):
        axis.axhline(0, color="black", linewidth=0.8)
        if ideal:
            one = table.unique(x, maintain_order=True).sort(x)
            axis.plot(one[x], one["ideal"], color=CD_COLOUR, linestyle="--", linewidth=1.2)
        _lines(settings, axis, table, x, "margin")
        if limit is not None:
            axis.axvline(limit, color="black", linewidth=0.8, linestyle=":")
    # by the models: the observer leaves them far behind
    bounds = pl.concat([table for _, table in parts]).select("ci_low", "ci_high").to_numpy()
    room = 0.1 * (bounds.max() - bounds.min())
    axes[0].set_ylim(bounds.min() - room, bounds.max() + room)
    for axis in axes[-columns:]:
        axis.set_xlabel(label)
    figure.supylabel(_MARGIN)
    _legend(settings, figure, ideal)
    return figure


def _places(settings: HijackSettings, places: pl.DataFrame) -> Drawing:
    titles = {
        "previous": "attention from behind a trigger to it, layer 1",
        "copied": "a trigger's output, predicted again",
    }
    figure, axes = panels(list(titles.values()), 2, height=2.2, share_y=True)
    for axis, quantity in zip(axes, titles, strict=True):
        _lines(settings, axis, places.filter(pl.col("quantity") == quantity), "place", "value")
        axis.axvline(settings.training.length, color="black", linewidth=0.8, linestyle=":")
        axis.set_ylim(0, 1)
        axis.set_xlabel("place in the sequence")
    axes[0].set_ylabel("share")
    _legend(settings, figure, ideal=False)
    caption = (
        "Ordinary sequences, longer than those of training (dotted line). On the left: does the previous-token head"
        " still look one token back there? On the right: is what the sequence showed before predicted? Bands: bootstrap"
        " over sequences."
    )
    shown = places.filter(pl.col("quantity").is_in(list(titles)))
    named = shown.with_columns(panel=pl.col("quantity").replace_strict(titles))
    numbers = joined([tidy(named, "value", keep=["positions", "place"], metric="share", unit="fraction")])
    return Drawing("places", "The heads by place", caption, figure, numbers)


def _lines(settings: HijackSettings, axes: Axes, table: pl.DataFrame, x: str, y: str) -> None:
    for number, positions in enumerate(settings.model.positions):
        for seed in settings.training.seeds:
            mine = table.filter(pl.col("positions") == positions, pl.col("seed") == seed).sort(x)
            line_with_band(axes, mine, (x, y), alpha=0.2, markersize=3, linewidth=1.2, **look_of(number))


def _legend(settings: HijackSettings, figure: Figure, ideal: bool) -> None:
    handles = key_of(settings.model.positions, markersize=3)
    if ideal:
        handles.append(Line2D([], [], color=CD_COLOUR, linestyle="--", label="knowing observer"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
