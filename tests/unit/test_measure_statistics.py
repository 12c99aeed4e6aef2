"""The bootstrap against a literal loop, against scipy's, and against what an interval promises."""

import zlib

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from patchboard.measure import statistics
from patchboard.measure.statistics import Bootstrap, Replicates, drawn, interval, quantiles

LOPSIDED_STRATA = ["a"] * 3 + ["b"] * 20 + ["c"] + ["a"] * 2 + ["d"] * 7


def lopsided(rng, rows, cells):
    values = rng.lognormal(sigma=1.5, size=(rows, cells)) * rng.choice([-1, 1, 1], size=(rows, cells))
    values[rng.random((rows, cells)) < np.linspace(0, 0.9, cells)] = np.nan
    return values


def resample_counts(strata, bootstrap):
    """[resamples, rows] how often each row of a table is drawn."""
    names = np.array(strata)
    counts = np.zeros((bootstrap.resamples, len(names)))
    for name in dict.fromkeys(strata):
        for resamples, found in drawn(name, strata.count(name), bootstrap):
            counts[resamples, names == name] = found
    return counts


@pytest.mark.parametrize("at_once", [1, 41, 10**6])
def test_replicates_equal_the_mean_of_rows_written_out_as_often_as_they_are_drawn(monkeypatch, at_once):
    for bound in ("_COUNTS_AT_ONCE", "_COUNTS_KEPT", "_FLOATS_AT_ONCE"):
        monkeypatch.setattr(statistics, bound, at_once)
    values, names = lopsided(np.random.default_rng(0), len(LOPSIDED_STRATA), 9), np.array(LOPSIDED_STRATA)
    bootstrap = Bootstrap(60, 0.95, 4)
    counts = resample_counts(LOPSIDED_STRATA, bootstrap)
    replicates = Replicates(9, 60)
    for name in dict.fromkeys(LOPSIDED_STRATA):
        for resamples, found in drawn(name, LOPSIDED_STRATA.count(name), bootstrap):
            for cells in (slice(0, 4), slice(4, 9)):
                replicates.add(values[names == name][:, cells], found, cells, resamples)
    fast = replicates.means()
    for r, times_drawn in enumerate(counts.astype(int)):
        for c in range(values.shape[1]):
            written_out = [values[i, c] for i, times in enumerate(times_drawn) for _ in range(times)]
            kept = [v for v in written_out if not np.isnan(v)]
            slow = sum(kept) / len(kept) if kept else np.nan
            np.testing.assert_allclose(fast[c, r], slow, rtol=1e-10, atol=1e-12)  # sums in another order


def test_interval_is_the_quantiles_of_a_literal_bootstrap():
    values = lopsided(np.random.default_rng(1), len(LOPSIDED_STRATA), 5)
    low, high = interval(values, Bootstrap(300, 0.8, 2), strata=LOPSIDED_STRATA)
    counts = resample_counts(LOPSIDED_STRATA, Bootstrap(300, 0.95, 2)).astype(int)
    for c in range(values.shape[1]):
        means = [np.nanmean(np.repeat(values[:, c], drawn)) for drawn in counts if (~np.isnan(values[:, c])) @ drawn]
        np.testing.assert_allclose([low[c], high[c]], np.percentile(means, [10, 90]), rtol=1e-10)


def test_agrees_with_scipy():
    sample = np.random.default_rng(2).lognormal(sigma=1.2, size=41)
    theirs = scipy.stats.bootstrap(
        (sample,), np.mean, n_resamples=40_000, method="percentile", confidence_level=0.9, rng=0
    ).confidence_interval
    (low,), (high,) = interval(sample[:, None], Bootstrap(40_000, 0.9, 0))
    # two Monte Carlo estimates of the same two quantiles: with 40,000 draws each is known to about 1 %
    # of the width (sqrt(.05 * .95 / 40,000) over the density there)
    width = theirs.high - theirs.low
    assert abs(low - theirs.low) < 0.03 * width
    assert abs(high - theirs.high) < 0.03 * width


def test_every_stratum_keeps_its_size_and_its_draws():
    counts = resample_counts(LOPSIDED_STRATA, Bootstrap(50, 0.95, 3))
    names = np.array(LOPSIDED_STRATA)
    for name in "abcd":
        assert (counts[:, names == name].sum(axis=1) == (names == name).sum()).all()
    alone = resample_counts(["b"] * 20, Bootstrap(50, 0.95, 3))
    np.testing.assert_array_equal(counts[:, names == "b"], alone)
    assert (resample_counts(["b"] * 20, Bootstrap(50, 0.95, 4)) != alone).any()
    assert (counts[:, names == "b"][:, :7] != counts[:, names == "d"]).any()


def test_resampling_within_strata_is_blind_to_differences_between_them():
    values = np.repeat([0.0, 1.0], [30, 10])[:, None]
    strata = ["none"] * 30 + ["one"] * 10
    low, high = interval(values, Bootstrap(500, 0.95, 0), strata=strata)
    assert low[0] == high[0] == 0.25
    low, high = interval(values, Bootstrap(500, 0.95, 0))
    assert high[0] - low[0] > 0.2


def test_draws_do_not_depend_on_how_they_are_sliced(monkeypatch):
    """And are numpy's own, drawn at once."""
    rng = np.random.default_rng([3, zlib.crc32(b"b")])
    expected = rng.multinomial(20, np.full(20, 1 / 20), size=50)
    np.testing.assert_array_equal(resample_counts(["b"] * 20, Bootstrap(50, 0.95, 3)), expected)
    monkeypatch.setattr(statistics, "_COUNTS_KEPT", 0)
    for counts, floats in ((10**6, 10**6), (150, 10**6), (10**6, 150), (150, 40), (1, 1)):
        monkeypatch.setattr(statistics, "_COUNTS_AT_ONCE", counts)
        monkeypatch.setattr(statistics, "_FLOATS_AT_ONCE", floats)
        np.testing.assert_array_equal(resample_counts(["b"] * 20, Bootstrap(50, 0.95, 3)), expected)


def test_cells_are_resampled_alike():
    values = np.random.default_rng(3).normal(size=(50, 1))
    low, high = interval(np.hstack([values, values + 3, -values]), Bootstrap(400, 0.95, 0))
    np.testing.assert_allclose([low[1], high[1]], [low[0] + 3, high[0] + 3], rtol=1e-12)
    np.testing.assert_allclose([low[2], high[2]], [-high[0], -low[0]], rtol=1e-9)


def test_more_cells_than_are_computed_at_once():
    values = np.random.default_rng(4).normal(size=(12, 2500))
    low, high = interval(values, Bootstrap(100, 0.9, 0))
    for c in (0, 1023, 1024, 2499):
        alone = interval(values[:, [c]], Bootstrap(100, 0.9, 0))
        np.testing.assert_allclose([low[c], high[c]], np.ravel(alone), rtol=1e-12)


def test_equal_values_give_no_width_and_no_values_give_nan():
    values = np.full((30, 3), 0.1)
    values[:, 1] = np.nan
    values[5:, 2] = np.nan
    low, high = interval(values, Bootstrap(200, 0.95, 0))
    assert low[0] == high[0] == 0.1
    assert np.isnan(low[1]) and np.isnan(high[1])
    assert low[2] == high[2] == 0.1  # although some resamples draw none of the five
    low, high = interval(np.empty((0, 2)), Bootstrap(200, 0.95, 0))
    assert np.isnan(low).all() and np.isnan(high).all()


def test_quantiles_leave_nan_out():
    replicates = np.arange(11.0)[None, :].repeat(2, axis=0)
    replicates[1, [0, 10]] = np.nan
    low, high = quantiles(replicates, 0.5)
    assert (low.tolist(), high.tolist()) == ([2.5, 3.0], [7.5, 7.0])


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(-1e6, 1e6)),
    st.floats(0.05, 0.99),
)
def test_an_interval_lies_within_the_values(values, level):
    low, high = interval(values, Bootstrap(100, level, 1))
    slack = 1e-9 * (1 + np.abs(values).max())
    assert (low <= high).all()
    assert (low >= values.min(axis=0) - slack).all() and (high <= values.max(axis=0) + slack).all()


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 4])
def test_covers_zero_as_often_as_it_says_where_there_is_no_effect(tasks):
    """Changes of exact match that go either way equally often: 400 runs of 160 queries."""
    rng = np.random.default_rng(2412)
    strata = [f"task {i % tasks}" for i in range(160)]
    often = rng.uniform(0.1, 0.6, size=400)  # some interventions change many answers, some few
    change = rng.choice([-1.0, 1.0], size=(160, 400)) * (rng.random((160, 400)) < often)
    low, high = interval(change, Bootstrap(2000, 0.95, 0), strata=strata)
    assert 0.93 <= ((low <= 0) & (high >= 0)).mean() <= 0.97
