"""How well a screen's estimates rank the cells, and how much it missed: from the cells that ran exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import beta

from patchboard.measure.relation import FEWEST_LAYERS, spearman
from patchboard.measure.screen import KEPT, SAMPLED, against_exact, interventions_of, settings_in


def screen_summary(screen: pl.DataFrame, effects: pl.DataFrame, method: str, level: float) -> dict[str, Any]:
    """``summary.json``'s ``screen``. screen: store.schema.SCREEN; effects: EFFECTS, swept columns in both.

    points: a dict each setting swept for the whole run (``at``, ``shots``, ``seed``), over all tasks: counts of cells;
    ``spearman_of_sample`` and ``spearman_of_all``, rank correlations of estimate and exact effect over the random
    sample and over all cells that ran; the same by intervention; ``missed``.
    """
    joined = against_exact(screen, effects)
    columns = settings_in(screen)
    points = []
    for setting in joined.select(columns).unique(maintain_order=True).to_dicts():
        here = joined.filter(*(pl.col(name).eq_missing(value) for name, value in setting.items()))
        swept = {name: value for name, value in setting.items() if name not in ("shots", "seed") and value is not None}
        points.append(
            {
                "at": swept, "shots": setting["shots"], "seed": setting["seed"],
                **_counts(here), **_correlations(here), "missed": missed(here, level),
                "interventions": {
                    name: {**_counts(rows), **_correlations(rows)} for name, rows in interventions_of(here).items()
                },
            }
        )  # fmt: skip
    metric = screen["metric"].unique(maintain_order=True).to_list()
    return {"method": method, "metric": metric[0] if len(metric) == 1 else metric, "points": points}


def _counts(rows: pl.DataFrame) -> dict[str, int]:
    chosen = rows["chosen"]
    return {"cells": len(rows), "kept": int((chosen == KEPT).sum()), "sampled": int((chosen == SAMPLED).sum())}


def _correlations(rows: pl.DataFrame) -> dict[str, float | None]:
    return {
        "spearman_of_sample": rank_correlation(rows.filter(pl.col("chosen") == SAMPLED)),
        "spearman_of_all": rank_correlation(rows),
    }


def rank_correlation(rows: pl.DataFrame) -> float | None:
    """Spearman's, of estimate and exact effect over the cells that have both; None of fewer than FEWEST_LAYERS."""
    known = rows.filter(pl.col("estimate").is_not_nan(), pl.col("effect").is_not_null() & pl.col("effect").is_not_nan())
    if len(known) < FEWEST_LAYERS:
        return None
    return float(spearman(known["estimate"].to_numpy(), known["effect"].to_numpy()[None])[0])


def missed(rows: pl.DataFrame, level: float) -> dict[str, Any] | None:
    """How many cells that were not kept have a larger exact |effect| than the smallest of their task's kept ones.

    Counted in the random sample (``above`` of ``sampled``), scaled to all cells that were not kept (``others``):
    ``expected`` in [low, high], Clopper and Pearson's interval (1934) of the share, exact and thus at least as wide as
    ``level`` says; of no width where all of the others were drawn. ``largest``: the largest exact |effect| of the
    sample, and ``kept_above`` of the kept cells are larger. None without a sample.
    """
    measured = rows.with_columns(size=pl.col("effect").fill_nan(None).abs())
    least = (pl.col("size").filter(pl.col("chosen") == KEPT)).min().over("task")
    measured = measured.with_columns(least=least)
    sample = measured.filter(pl.col("chosen") == SAMPLED, pl.col("size").is_not_null())
    if sample.is_empty():
        return None
    others = int((rows["chosen"] != KEPT).sum())
    above, drawn = int((sample["size"] > sample["least"]).sum()), len(sample)
    low, high = clopper_pearson(above, drawn, level) if drawn < others else (above / drawn, above / drawn)
    kept = measured.filter(pl.col("chosen") == KEPT, pl.col("size").is_not_null())["size"].to_numpy()
    largest = float(np.max(sample["size"].to_numpy()))
    return {
        "above": above, "sampled": drawn, "others": others, "expected": above / drawn * others,
        "low": low * others, "high": high * others, "smallest_kept": float(kept.min()) if len(kept) else None,
        "largest": largest, "kept_above": int((kept > largest).sum()),
    }  # fmt: skip


def clopper_pearson(hits: int, of: int, level: float) -> tuple[float, float]:
    """Interval of a share of which ``hits`` in ``of`` independent draws were seen (Clopper & Pearson 1934).

    >>> [round(end, 4) for end in clopper_pearson(0, 50, 0.95)], [round(end, 4) for end in clopper_pearson(5, 50, 0.95)]
    ([0.0, 0.0711], [0.0333, 0.2181])
    """
    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, of - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, of - hits)) if hits < of else 1.0
    return low, high
