"""A model's weights read as associative memories: give each memory an input, see which token or place it returns.

    output    argmax_j  W_U (1 + W_F) W_OV2 W_E[i]
              should return i: what layer 2 attends to is what comes next
    match     argmax_k  W_E[i] W_Q2' W_K2 W_OV1 W_E[k]
              should return i: layer 2 looks for a token whose predecessor, as layer 1 left it there, is its own
    previous  argmax_s<=t  score of layer 1's key at s for the query at t, by position alone
              should return t - 1
    bigram    argmax_j  W_U (1 + W_F) W_E[i]
              should return the table's usual successor of i

Source: Bietti et al. 2023 (arXiv 2306.00802), section 4.2 and its "memory recall probes".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.tables import MEMORIES
from patchboard.tasks.bigram import BigramTable


@torch.no_grad()
def read_memories(model: TwoLayers, table: BigramTable, trained_length: int) -> pl.DataFrame:
    """All memories of a model, a row for each item."""
    every = np.arange(table.vocab)
    frequent = every < table.common
    always = np.ones(table.vocab, dtype=bool)
    parts = [
        _rows("output", output_scores(model), every, always),
        _rows("match", match_scores(model), every, frequent),
        _rows("bigram", model.logits(model.embed), table.usual, always),
        _previous(previous_scores(model), trained_length),
    ]
    return pl.concat(parts)


def output_scores(model: TwoLayers) -> Tensor:
    """[token attended to, next token]: logits that layer 2's value and output give on their own."""
    return model.logits(model.norm(model.embed) @ model.output.T)


def match_scores(model: TwoLayers) -> Tensor:
    """[token of the query, predecessor of the key's token]: layer 2's attention scores, at distance 0."""
    layer = 1
    embed = model.norm(model.embed)
    query = embed @ model.queries[layer].T if len(model.queries) else embed
    return query @ (model.norm(embed @ model.remap.T) @ model.keys[layer].T).T


def previous_scores(model: TwoLayers) -> Tensor:
    """[place of the query, place of the key]: layer 1's scores by position alone, -inf for later keys.

    absolute: of the position vectors alone. rotary, relative: the mean over all tokens as query (rotary: and key),
    a function of the distance.
    """
    length = model.shape.longest
    seen = torch.ones(length, length, dtype=torch.bool, device=model.embed.device).tril()
    if model.shape.positions == "rotary":
        # scores are bilinear, so the mean over tokens is the score of the mean token
        state = model.norm(model.embed).mean(0).expand(1, length, -1)
        scores = model.scores(0, state)[0]
    else:
        assert model.places is not None
        absolute = model.shape.positions == "absolute"
        own = model.norm(model.places) if absolute else model.places
        asking = own if absolute else model.norm(model.embed).mean(0, keepdim=True)
        if len(model.queries):
            asking = asking @ model.queries[0].T
        scores = asking @ (own @ model.keys[0].T).T
        if not absolute:
            place = torch.arange(length, device=scores.device)
            scores = scores[0, (place[:, None] - place).clamp(min=0)]
    return scores.masked_fill(~seen, -torch.inf)


def _previous(scores: Tensor, trained_length: int) -> pl.DataFrame:
    # the first place has no predecessor
    places = np.arange(1, len(scores))
    return _rows("previous", scores[1:], places - 1, places < trained_length, first=1)


def _rows(
    memory: str, scores: Tensor, expected: NDArray[np.int64], trained: NDArray[np.bool_], first: int = 0
) -> pl.DataFrame:
    """A memory's table from its scores [item, candidate]."""
    table = scores.double().cpu().numpy()
    row = np.arange(len(table))
    others = table.copy()
    others[row, expected] = -np.inf
    columns = {
        "memory": [memory] * len(table),
        "item": row + first,
        "returned": table.argmax(axis=1),
        "expected": expected,
        "lead": table[row, expected] - others.max(axis=1),
        "trained": trained,
    }
    return pl.DataFrame(columns, schema=MEMORIES)


def recall(memories: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """For each memory: the share of items that return what they should, in training's range and beyond, and n."""
    right = pl.col("returned") == pl.col("expected")
    grouped = memories.group_by("memory", "trained", maintain_order=True)
    yield from grouped.agg(right.mean().alias("right"), pl.len().alias("n")).to_dicts()


def previous_up_to(memories: pl.DataFrame) -> int:
    """The last place t such that at 1 … t the previous place is returned; 0 where it fails at once."""
    own = memories.filter(pl.col("memory") == "previous").sort("item")
    wrong = own.filter(pl.col("returned") != pl.col("expected"))["item"]
    return int(wrong[0]) - 1 if len(wrong) else int(own["item"].max() or 0)  # type: ignore[arg-type]
