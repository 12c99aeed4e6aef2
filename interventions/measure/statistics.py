"""Bootstrap intervals of means over queries, for all cells at once.

A bootstrap mean is a weighted mean with multinomial weights, so the means of all cells under all
resamples are one matrix product. Every cell sees the same resamples: differences between cells are paired.
Source: Efron & Tibshirani 1993, percentile intervals; the same numbers as scipy.stats.bootstrap
(method="percentile") up to its random draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def resample_weights(queries: int, resamples: int, seed: int) -> Array:
    """[resamples, queries]: how often each query is drawn when ``queries`` are drawn with replacement."""
    rng = np.random.default_rng([seed, queries])
    return rng.multinomial(queries, np.full(queries, 1 / queries), size=resamples).astype(float)


def resampled_means(values: Array, weights: Array) -> Array:
    """values [query, cell] (NaN: excluded) -> means under each resample [resamples, cell].

    A resample that holds no query of a cell gives NaN.
    """
    seen = ~np.isnan(values)
    total = weights @ np.where(seen, values, 0.0)
    count = weights @ seen
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, total / count, np.nan)


def stratified_means(strata: Sequence[Array], resamples: int, seed: int) -> Array:
    """Pooled means [resamples, cell]; queries [query, cell] are redrawn within each stratum (task).

    Every query weighs the same, whichever stratum it is of.
    """
    total: Array | float = 0.0
    count: Array | float = 0.0
    for i, values in enumerate(strata):
        weights = resample_weights(len(values), resamples, seed + i)
        seen = ~np.isnan(values)
        total = total + weights @ np.where(seen, values, 0.0)
        count = count + weights @ seen
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(count) > 0, np.asarray(total) / count, np.nan)


def percentile_interval(means: Array, level: float) -> tuple[Array, Array]:
    """[resamples, cell] -> (low, high) [cell]: the central ``level`` of the resampled means."""
    tail = (1 - level) / 2
    out = np.full((2, means.shape[1]), np.nan)
    known = ~np.isnan(means).all(0)
    if known.any():
        out[:, known] = np.nanquantile(means[:, known], [tail, 1 - tail], axis=0)
    return out[0], out[1]


def mean_and_interval(values: Array, level: float, resamples: int, seed: int) -> tuple[Array, Array, Array]:
    """values [query, cell] -> mean, low, high [cell]."""
    low, high = percentile_interval(resampled_means(values, resample_weights(len(values), resamples, seed)), level)
    return nan_mean(values), low, high


def nan_mean(values: Array, axis: int = 0) -> Array:
    """Mean of what is not NaN; NaN, without a warning, where all is."""
    seen = ~np.isnan(values)
    count = seen.sum(axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, np.where(seen, values, 0.0).sum(axis) / count, np.nan)
