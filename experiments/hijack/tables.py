"""The columns of an experiment's tables. Each begins with what names a model: its positions and its seed."""

from __future__ import annotations

import polars as pl

MODEL = {"positions": pl.String(), "seed": pl.Int64()}

CURVE = {
    "step": pl.Int32(),
    "loss": pl.Float64(),  # nats a token that enters the loss, mean since the last point
    "copied": pl.Float64(),  # on held-out sequences: share of right predictions where a trigger stands again
    "bigram": pl.Float64(),  # ... where no trigger stands, the most likely token being right
    "previous": pl.Float64(),  # layer 1's attention to the token before, where that is a trigger
}
"""One row a checkpoint."""

OUTCOMES = {
    "kind": pl.String(),  # count, distance, near, spread
    "count": pl.Int32(),  # pairs "a b" in the prompt
    "distance": pl.Int32(),  # tokens from the pair to the end, 0 where pairs stand at random
    "length": pl.Int32(),  # tokens of the prompt
    "prompt": pl.Int32(),  # the same a, b, c in every setting
    "token": pl.Int32(),  # a
    "copied": pl.Int32(),  # b
    "usual": pl.Int32(),  # c
    "strength": pl.Float64(),  # P(c | a) in training, where a is no trigger
    "margin": pl.Float64(),  # logit(b) - logit(c), nats
    "ideal": pl.Float64(),  # the same of an observer who knows how sequences are made
    "answer": pl.Int32(),  # the most likely token
}

MARGINS = {
    "kind": pl.String(),
    "count": pl.Int32(),
    "distance": pl.Int32(),
    "length": pl.Int32(),
    "strength": pl.Float64(),  # null: all
    "margin": pl.Float64(),  # mean over prompts, nats
    "ci_low": pl.Float64(),  # bootstrap over prompts
    "ci_high": pl.Float64(),
    "ideal": pl.Float64(),  # mean over the same prompts
    "copied": pl.Float64(),  # share of prompts answered with b
    "hijacked": pl.Float64(),  # share of prompts answered with c
    "n": pl.Int32(),
}

PLACES = {
    "place": pl.Int32(),  # first place of the bin
    "quantity": pl.String(),  # previous, copied: see by_place
    "value": pl.Float64(),  # mean over sequences
    "ci_low": pl.Float64(),  # bootstrap over sequences
    "ci_high": pl.Float64(),
}

MEMORIES = {
    "memory": pl.String(),
    "item": pl.Int32(),  # the token or place that is given
    "returned": pl.Int32(),
    "expected": pl.Int32(),
    "lead": pl.Float64(),  # score of the expected one minus the best other: logits, or attention scores
    "trained": pl.Boolean(),  # a trigger in training (match), a place within the training length (previous)
}

TABLES: dict[str, dict[str, pl.DataType]] = {
    "training.parquet": {**MODEL, **CURVE},
    "outcomes.parquet": {**MODEL, **OUTCOMES},
    "margins.parquet": {**MODEL, **MARGINS},
    "places.parquet": {**MODEL, **PLACES},
    "memories.parquet": {**MODEL, **MEMORIES},
}
