"""The bootstrap against a literal loop, against scipy's, and against what an interval promises."""

import numpy as np
import polars as pl
import pytest
import scipy.stats

from interventions.measure.effects import Bootstrap, curves, effects
from interventions.measure.statistics import mean_and_interval, resample_weights, resampled_means, stratified_means
from interventions.measure.summary import spearman


def lopsided(seed: int, rows: int, cells: int) -> np.ndarray:
    """Skewed values of both signs, with ever more of them missing."""
    rng = np.random.default_rng(seed)
    values = rng.lognormal(sigma=1.5, size=(rows, cells)) * rng.choice([-1, 1, 1], size=(rows, cells))
    values[rng.random((rows, cells)) < np.linspace(0, 0.9, cells)] = np.nan
    return values


def test_a_weighted_mean_is_the_mean_of_rows_written_out():
    values, weights = lopsided(0, 17, 9), resample_weights(17, 60, seed=4)
    fast = resampled_means(values, weights)
    for r, drawn in enumerate(weights.astype(int)):
        for c in range(values.shape[1]):
            kept = [v for i, times in enumerate(drawn) for v in [values[i, c]] * times if not np.isnan(v)]
            np.testing.assert_allclose(fast[r, c], np.mean(kept) if kept else np.nan, rtol=1e-10, atol=1e-12)


def test_interval_agrees_with_scipy():
    sample = np.random.default_rng(2).lognormal(sigma=1.2, size=41)
    theirs = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=40_000, method="percentile", confidence_level=0.9, rng=0
    ).confidence_interval
    mean, (low,), (high,) = mean_and_interval(sample[:, None], 0.9, 40_000, seed=0)
    # two Monte Carlo estimates of the same quantiles: 40,000 draws give each to about 1 % of the width
    width = theirs.high - theirs.low
    assert mean[0] == pytest.approx(sample.mean())
    assert abs(low - theirs.low) < 0.03 * width and abs(high - theirs.high) < 0.03 * width


def test_strata_are_redrawn_apart():
    """Two constant strata: redrawing within each leaves the pooled mean as it is, pooling would not."""
    strata = [np.zeros((30, 1)), np.ones((10, 1))]
    np.testing.assert_allclose(stratified_means(strata, 200, seed=0), 0.25)
    pooled = resampled_means(np.concatenate(strata), resample_weights(40, 200, 0))
    assert pooled.std() > 0.03


def test_degenerate_cells():
    values = np.array([[1.0, np.nan], [1.0, np.nan], [1.0, np.nan]])
    mean, low, high = mean_and_interval(values, 0.95, 100, seed=0)
    assert mean[0] == low[0] == high[0] == 1.0
    assert np.isnan([mean[1], low[1], high[1]]).all()


@pytest.mark.slow
def test_null_calibration():
    """Without an effect the 95 % interval covers zero in 93 to 97 % of 400 repeats (seeds fixed)."""
    rng = np.random.default_rng(11)
    covered = 0
    for repeat in range(400):
        _, low, high = mean_and_interval(rng.normal(size=(100, 1)), 0.95, 2000, seed=repeat)
        covered += bool(low[0] <= 0 <= high[0])
    assert 0.93 <= covered / 400 <= 0.97


def outcomes() -> pl.DataFrame:
    """Two tasks of unequal size, two layers, two draws of a random control, some queries excluded."""
    rng = np.random.default_rng(5)
    rows = []
    for task, queries in (("A", 9), ("B", 4)):
        for layer in (0, 1):
            for control, vector in (("", task), ("random", f"{task}~random0"), ("random", f"{task}~random1")):
                for query in range(queries):
                    clean, patched = rng.normal(size=2)
                    if (query + layer) % 4 == 3:
                        patched = np.nan
                    rows.append(
                        {
                            "task": task, "query": query, "intervention": "i", "control": control, "vector_task": vector,
                            "op": "patch", "site": "resid_post", "layer": layer, "layers": str(layer), "head": -1,
                            "position": "last", "strength": 1.0, "shots": 0, "seed": 0, "metric": "logprob",
                            "clean": clean, "patched": patched, "prompts.shots": 0,
                        }
                    )  # fmt: skip
    return pl.DataFrame(rows)


def test_effects_are_literal_paired_means():
    table = outcomes()
    found = effects(table, Bootstrap(300, 0.9, 0))
    assert len(found) == 2 * 2 * 3
    for row in found.iter_rows(named=True):
        same = [r for r in table.iter_rows(named=True) if all(r[k] == row[k] for k in ("task", "layer", "vector_task"))]
        pairs = [r["patched"] - r["clean"] for r in same if not np.isnan(r["patched"])]
        assert row["effect"] == pytest.approx(np.mean(pairs))
        assert (row["n"], row["excluded"]) == (len(pairs), len(same) - len(pairs))
        assert row["ci_low"] <= row["effect"] <= row["ci_high"]
        assert row["prompts.shots"] == 0


def test_curves_average_draws_within_a_query_and_weigh_queries_alike():
    table = outcomes()
    found = curves(table, Bootstrap(300, 0.9, 0))
    assert len(found) == 2 * 2
    for row in found.iter_rows(named=True):
        by_query: dict[tuple[str, int], list[float]] = {}
        for r in table.iter_rows(named=True):
            if (r["layer"], r["control"]) == (row["layer"], row["control"]) and not np.isnan(r["patched"]):
                by_query.setdefault((r["task"], r["query"]), []).append(r["patched"] - r["clean"])
        assert row["effect"] == pytest.approx(np.mean([np.mean(v) for v in by_query.values()]))
        assert row["n"] == len(by_query)


def test_spearman_is_scipys():
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 5, size=(20, 9)).astype(float), rng.normal(size=9)
    for row, value in zip(a, spearman(a, b), strict=True):
        assert value == pytest.approx(scipy.stats.spearmanr(row, b).statistic)
