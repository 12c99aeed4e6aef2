"""Shares of two means: literal formulas beside the matrices, and an interval that covers what it says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from patchboard.measure.effects import curves, effects
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap, drawn
from patchboard.store.schema import OUTCOMES, SCALE

BOOTSTRAP = Bootstrap(400, 0.9, 3)


def outcomes(tasks: dict[str, np.ndarray], metric: str = "m", **fields) -> pl.DataFrame:
    """tasks: name -> values [query, (clean, patched, scale)]."""
    rows = [
        {**dict.fromkeys(OUTCOMES), "intervention": "a", "control": "", "layer": 1, "layers": "1", "head": -1,
         "shots": 0, "seed": 0, "metric": metric, "task": task, "query": query, "clean": clean, "patched": patched,
         "scale": scale, **fields}
        for task, values in tasks.items()
        for query, (clean, patched, scale) in enumerate(values.tolist())
    ]  # fmt: skip
    return pl.DataFrame(rows, schema={**OUTCOMES, **SCALE}).with_columns(pl.col("scale").fill_nan(None))


def values(seed: int, queries: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    scale = rng.normal(3, 1, queries)
    return np.stack([scale, rng.normal(1, 2, queries), scale], axis=1)


def literal(tasks: dict[str, np.ndarray]) -> tuple[float, float, float, float]:
    """(clean, patched, low, high) by loops over resamples and queries; a row with NaN is left out."""
    counts = {name: next(iter(drawn(name, len(rows), BOOTSTRAP)))[1] for name, rows in tasks.items()}
    ratios = []
    for resample in range(BOOTSTRAP.resamples):
        above = below = 0.0
        for name, rows in tasks.items():
            for times, (clean, patched, scale) in zip(counts[name][resample].tolist(), rows.tolist(), strict=True):
                if not np.isnan(patched):
                    above += times * (patched - clean)
                    below += times * scale
        ratios.append(above / below)
    used = np.concatenate([rows[~np.isnan(rows[:, 1])] for rows in tasks.values()])
    clean, patched, scale = used.mean(axis=0)
    return clean / scale, patched / scale, *np.quantile(ratios, [0.05, 0.95])


def test_both_means_are_resampled_together():
    tasks = {"A": values(1), "B": values(2, 7)}
    tasks["B"][2, :2] = np.nan
    row = curves(index_outcomes(outcomes(tasks)), BOOTSTRAP).row(0, named=True)
    found = row["clean"], row["patched"], row["ci_low"], row["ci_high"]
    assert found == pytest.approx(literal(tasks), rel=1e-12)
    assert (row["n"], row["excluded"]) == (15, 1) and row["effect"] == pytest.approx(row["patched"] - row["clean"])
    for task, rows in tasks.items():
        row = effects(index_outcomes(outcomes(tasks)), BOOTSTRAP).filter(task=task).row(0, named=True)
        assert (row["clean"], row["patched"], row["ci_low"], row["ci_high"]) == pytest.approx(literal({task: rows}))


def test_other_metrics_beside_it_keep_every_bit():
    plain = outcomes({"A": values(4)}, "plain").with_columns(scale=pl.lit(None, pl.Float64))
    both = pl.concat([outcomes({"A": values(5)}), plain])
    without = effects(index_outcomes(both.drop("scale")), BOOTSTRAP)
    found = effects(index_outcomes(both), BOOTSTRAP)
    assert found.columns == without.columns
    assert found.filter(metric="plain").equals(without.filter(metric="plain"))
    assert not found.filter(metric="m").equals(without.filter(metric="m"))


def test_no_number_where_the_ends_are_not_told_apart():
    unsure = values(6) - [0, 0, 3.2]
    both = pl.concat([outcomes({"A": unsure}), outcomes({"A": values(6)}, layer=2, layers="2")])
    lost, known = effects(index_outcomes(both), BOOTSTRAP).to_dicts()
    assert (lost["n"], lost["excluded"], known["n"]) == (0, 9, 9)
    assert all(np.isnan(lost[name]) for name in ("clean", "patched", "effect", "ci_low", "ci_high"))


@pytest.mark.slow
def test_the_interval_covers_the_true_ratio():
    """Queries whose two ends vary together, as clean and corrupted differences do: 90 % of intervals hold the truth."""
    rng, bootstrap, held, times, queries = np.random.default_rng(0), Bootstrap(400, 0.9, 0), 0, 600, 40
    for _ in range(times):
        scale = rng.gamma(4, 1, queries)
        moved = -0.3 * scale + rng.normal(0, 1, queries)  # of the way, on the mean
        rows = {"A": np.stack([scale, scale + moved, scale], axis=1)}
        row = effects(index_outcomes(outcomes(rows)), bootstrap).row(0, named=True)
        held += row["ci_low"] <= -0.3 <= row["ci_high"]
    assert 0.86 < held / times < 0.93, held / times
