"""What a trained model does with the prompts, and where its heads look in ordinary sequences.

margin = logit(b) - logit(c) at the prompt's last token a, in nats: what the prompt showed against what training
taught. Above 0 the context wins; below, the bigram has hijacked the answer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.prompts import Prompts
from patchboard.experiments.hijack.tables import MARGINS, OUTCOMES, PLACES
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.tasks.bigram import BigramTable, Sequences, ideal_margin

_TOKENS_AT_ONCE = 1 << 14
"""Bounds attention weights: 64 sequences of 256 tokens are 17 MB a layer."""


def score_prompts(model: TwoLayers, prompts: Prompts, table: BigramTable, triggers: int) -> pl.DataFrame:
    """A row for each prompt."""
    logits = last_logits(model, prompts.tokens)
    row = np.arange(len(logits))
    count = np.full(len(row), prompts.count)
    columns = {
        "kind": [prompts.kind] * len(row), "count": count, "distance": [prompts.distance] * len(row),
        "length": [prompts.length] * len(row), "prompt": row, "token": prompts.token, "copied": prompts.copied,
        "usual": prompts.usual, "strength": table.strength[prompts.token],
        "margin": logits[row, prompts.copied] - logits[row, prompts.usual],
        "ideal": ideal_margin(table, triggers, prompts.token, prompts.copied, count),
        "answer": logits.argmax(axis=1),
    }  # fmt: skip
    return pl.DataFrame(columns, schema=OUTCOMES)


@torch.no_grad()
def last_logits(model: TwoLayers, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """[sequence, vocab]: logits after the last token of each sequence."""
    logits = [model.logits(model.states(part)[-1][:, -1]) for part in _parts(model, tokens)]
    return torch.cat(logits).double().cpu().numpy()


def margins(outcomes: pl.DataFrame, bootstrap: Bootstrap) -> pl.DataFrame:
    """Means with intervals for each setting: over all prompts, and for each strength."""
    settings = ["kind", "count", "distance", "length"]
    whole = outcomes.with_columns(pl.lit(None, dtype=pl.Float64).alias("strength"))
    return pl.concat([_means(part, settings, bootstrap) for part in (whole, *_by_strength(outcomes))])


def _by_strength(outcomes: pl.DataFrame) -> list[pl.DataFrame]:
    return [outcomes.filter(pl.col("strength") == each) for each in outcomes["strength"].unique().sort()]


def _means(outcomes: pl.DataFrame, settings: list[str], bootstrap: Bootstrap) -> pl.DataFrame:
    """One row for each setting. The same prompts stand in every one, so they are resampled together."""
    means = outcomes.group_by(*settings, maintain_order=True).agg(
        pl.col("strength").first(),
        pl.col("margin").mean(),
        pl.col("ideal").mean(),
        (pl.col("answer") == pl.col("copied")).mean().alias("copied"),
        (pl.col("answer") == pl.col("usual")).mean().alias("hijacked"),
        pl.len().alias("n"),
    )
    values = outcomes["margin"].to_numpy().reshape(len(means), -1).T  # [prompt, setting]
    low, high = interval(values, bootstrap)
    with_interval = means.with_columns(pl.Series("ci_low", low), pl.Series("ci_high", high))
    return with_interval.select(*MARGINS).cast(MARGINS)  # type: ignore[arg-type]


@torch.no_grad()
def by_place(model: TwoLayers, sequences: Sequences, bin_size: int, bootstrap: Bootstrap) -> pl.DataFrame:
    """Over the places of ordinary sequences, in bins.

    previous: layer 1's attention to the token before, where that is a trigger (nowhere else is it of use, and a head
    may know which tokens are never triggers). copied: whether a trigger's second and later outputs are predicted.
    """
    looks, hits = [], []
    for part in _parts(model, sequences.tokens):
        h0, _, h2 = model.states(part)
        looks.append(model.attention(0, h0).diagonal(-1, 1, 2).double().cpu().numpy())  # of places 1 …
        right = model.logits(h2[:, :-1]).argmax(-1) == part[:, 1:]
        hits.append(right.cpu().numpy())
    before = sequences.occurrence[:, :-1]
    again = before >= 2
    after = np.where(before >= 1, np.concatenate(looks), np.nan)
    previous = np.pad(after, ((0, 0), (1, 0)), constant_values=np.nan)  # the first place has none before it
    copied = np.where(again, np.concatenate(hits), np.nan)
    quantities = {"previous": previous, "copied": copied}
    return pl.concat([_binned(name, values, bin_size, bootstrap) for name, values in quantities.items()])


def _binned(quantity: str, values: NDArray[np.float64], size: int, bootstrap: Bootstrap) -> pl.DataFrame:
    """values: [sequence, place], NaN where there is none."""
    starts = np.arange(0, values.shape[1], size)
    present = ~np.isnan(values)
    sums = np.add.reduceat(np.where(present, values, 0.0), starts, axis=1)
    counts = np.add.reduceat(present.astype(np.int64), starts, axis=1)
    with np.errstate(invalid="ignore"):
        means = (sums / counts)[:, counts.any(axis=0)]  # [sequence, bin]: each sequence weighs the same
    starts = starts[counts.any(axis=0)]
    low, high = interval(means, bootstrap)
    columns = {
        "place": starts, "quantity": [quantity] * len(starts), "value": np.nanmean(means, axis=0),
        "ci_low": low, "ci_high": high,
    }  # fmt: skip
    return pl.DataFrame(columns, schema=PLACES)


def _parts(model: TwoLayers, tokens: NDArray[np.int64]) -> Iterator[Tensor]:
    at_once = max(1, _TOKENS_AT_ONCE // tokens.shape[1])
    for start in range(0, len(tokens), at_once):
        yield torch.from_numpy(tokens[start : start + at_once]).to(model.embed.device)
