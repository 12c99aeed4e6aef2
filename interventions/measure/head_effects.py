"""Average indirect effect of every head, ranked on one half of the queries and reported on the other.

CIE(l, h) of a query = metric with head h of layer l at its mean - metric without, on a prompt that does not tell the
task: its demonstrations carry each other's outputs, or it has none. AIE = its mean over queries and tasks. Source: Todd
et al. 2024, arXiv 2310.15213.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from patchboard.measure.effects import curves
from patchboard.measure.outcome_index import Outcomes
from patchboard.measure.statistics import Bootstrap

HEADS = "heads"
"""The intervention that patches every head with its mean."""

Head = tuple[int, int]
"""(layer, head)."""

DRAWS = 3
"""Sets of random heads for each size: one alone could be lucky."""

EFFECTS = {
    "metric": pl.String(),
    "layer": pl.Int32(),
    "head": pl.Int32(),
    "rank": pl.Int32(),  # 1: largest AIE on even queries, by the spec's first metric
    "chosen": pl.Float64(),  # AIE on even queries, in the metric's unit
    "clean": pl.Float64(),  # mean on odd queries, without an edit
    "effect": pl.Float64(),  # AIE on odd queries
    "ci_low": pl.Float64(),  # bootstrap over odd queries within tasks
    "ci_high": pl.Float64(),
    "n": pl.Int32(),  # odd queries of all tasks
    "random": pl.Float64(),  # the same with a random vector of the mean's norm; null without that control
    "random_low": pl.Float64(),
    "random_high": pl.Float64(),
}


def head_effects(outcomes: Outcomes, metric: str, bootstrap: Bootstrap) -> pl.DataFrame:
    """EFFECTS, by metric in the run's order and then by rank. outcomes: of a run whose intervention HEADS is.

    Tasks are pooled: every query weighs the same, which with equally many of each task is the mean over tasks.
    """
    of_heads = pl.col("intervention") == HEADS
    own, drawn = pl.col("control") == "", pl.col("control") == "random"
    place = ["metric", "layer", "head"]
    even = curves(outcomes.where(of_heads, own, odd=False), bootstrap).select(*place, pl.col("effect").alias("chosen"))
    odd = curves(outcomes.where(of_heads, own, odd=True), bootstrap)
    controls = curves(outcomes.where(of_heads, drawn, odd=True), bootstrap).select(
        *place, pl.col("effect").alias("random"), pl.col("ci_low").alias("random_low"),
        pl.col("ci_high").alias("random_high"),
    )  # fmt: skip
    # a head that no even query measures comes last; of equals the earlier one comes first
    order = even.filter(pl.col("metric") == metric).sort(
        pl.col("chosen").fill_nan(-np.inf), pl.col("layer"), pl.col("head"), descending=[True, False, False]
    )
    ranked = order.select("layer", "head").with_row_index("rank", offset=1)
    table = odd.join(even, on=place, how="left").join(controls, on=place, how="left")
    table = table.join(ranked, on=["layer", "head"], how="left")
    metrics = odd["metric"].unique(maintain_order=True).to_list()
    parts = [table.filter(pl.col("metric") == each).sort("rank") for each in metrics]
    return pl.concat(parts).select(pl.col(name).cast(kind) for name, kind in EFFECTS.items())


def best_heads(effects: pl.DataFrame, count: int) -> list[Head]:
    """The first ``count`` heads by rank."""
    ranked = effects.unique("rank").sort("rank").head(count)
    return list(zip(ranked["layer"], ranked["head"], strict=True))


def random_heads(effects: pl.DataFrame, without: Sequence[Head], count: int, seed: int) -> list[list[Head]]:
    """DRAWS sets of ``count`` heads that are not among ``without``, each by layer and head; different sets as long as
    there are any. Told by seed and count."""
    every = sorted(set(zip(effects["layer"], effects["head"], strict=True)) - set(without))
    rng = np.random.default_rng([seed, count])
    sets: list[list[int]] = []
    while len(sets) < DRAWS:
        drawn = sorted(rng.choice(len(every), size=count, replace=False).tolist())
        if drawn not in sets or len(sets) >= math.comb(len(every), count):
            sets.append(drawn)
    return [[every[i] for i in drawn] for drawn in sets]
