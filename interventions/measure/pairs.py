"""CD between two tasks at a time, and the layer that CD chooses, with CD there on points that did not choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from patchboard.measure.decodability import ALL, check_k, decodability_table, label_codes
from patchboard.measure.nearest import voted
from patchboard.measure.statistics import Bootstrap, interval

PAIRS = {
    "task": pl.String(),
    "other": pl.String(),
    "k": pl.Int32(),
    "n": pl.Int32(),  # points of both tasks together
    "cd": pl.Float64(),  # share of these points whose k nearest others, of these two tasks alone, vote for their own
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "chance": pl.Float64(),  # 1 / 2
}


def pairwise(states: Tensor, labels: Sequence[str], k: int, bootstrap: Bootstrap) -> pl.DataFrame:
    """CD of each pair of labels, neighbours sought among the points of these two alone: PAIRS, each pair once.

    states [point, d_model], labels [point]. Labels are confused in the whole family's CD where *any* other task is
    near; a pair's CD tells which one. Raises SpecError where two labels have no k other points.
    """
    names = np.array(labels)
    rows = []
    for task, other in combinations(dict.fromkeys(labels), 2):
        held = np.flatnonzero((names == task) | (names == other))
        check_k(k, len(held))
        own = names[held].tolist()
        votes = voted(states[torch.from_numpy(held)], torch.from_numpy(label_codes(own)), k).numpy()
        table = decodability_table(votes[None, None], own, None, [0], k, bootstrap).filter(pl.col("task") == ALL)
        rows.append(table.with_columns(task=pl.lit(task), other=pl.lit(other)))
    return pl.concat(rows).select(pl.col(column).cast(kind) for column, kind in PAIRS.items())


@dataclass(frozen=True)
class Choice:
    """The layer of the highest CD, and what is left of that CD on points that had no part in the choice.

    layer, cd: over all points, as the paper chooses and reports; the earliest of equals. half_layer: chosen by every
    second point; half_cd [low, high]: on the other points, so that the choice cannot flatter it.
    """

    layer: int
    cd: float
    half_layer: int
    half_cd: float
    ci_low: float
    ci_high: float


def choose(right: NDArray[np.bool_], labels: Sequence[str], bootstrap: Bootstrap) -> Choice:
    """right [layer, point]: whether a point's neighbours vote for its own label; points sorted by label."""
    names = np.array(labels)
    hits = right.astype(float)
    layer = int(hits.mean(1).argmax())
    half_layer = int(hits[:, ::2].mean(1).argmax())
    held = hits[half_layer, 1::2]
    low, high = interval(held[:, None], bootstrap, names[1::2].tolist())
    return Choice(layer, float(hits[layer].mean()), half_layer, float(held.mean()), float(low[0]), float(high[0]))
