"""Percentile bootstrap of means, vectorised over cells, with one set of resamples for all of them.

A resample of queries is a vector of counts, so all resamples of all cells are one matrix product:
``means = (W @ (mask * D)) / (W @ mask)``, W [resamples, rows] multinomial counts, D [rows, cells].
Cells share W, so a difference between two cells of the same queries is a paired difference.

Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 (percentile
interval) and 8.2 (several samples: each is resampled within itself).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CELLS_AT_ONCE = 1024
"""Bounds the replicates held at once: 1024 cells x 2000 resamples x 8 bytes = 16 MB."""


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the intervals: number of resamples, coverage in (0, 1) (0.95 for 95 %), seed."""

    resamples: int
    level: float
    seed: int


def resample_counts(strata: Sequence[str], bootstrap: Bootstrap) -> Floats:
    """How often each row is drawn in each resample; every stratum keeps its size.

    strata: [rows] the group (task, label) of each row.
    Returns [resamples, rows]. The draws of a stratum depend only on the seed, its name and its size:
    two tables over the same queries are resampled alike, whatever else they hold.
    """
    names = np.asarray(strata, dtype=object)
    counts = np.zeros((bootstrap.resamples, len(names)))
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        rng = np.random.default_rng([bootstrap.seed, zlib.crc32(str(name).encode())])
        counts[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=bootstrap.resamples)
    return counts


def replicate_means(values: Floats, counts: Floats) -> Floats:
    """The mean of each cell in each resample.

    values: [rows, cells], NaN where a row is excluded from that cell.
    counts: [resamples, rows].
    Returns [cells, resamples]; NaN in a resample that drew none of a cell's rows.
    """
    if not len(values):
        return np.full((values.shape[1], len(counts)), np.nan)
    included = ~np.isnan(values)
    # Measured from one of the cell's own values: cells whose rows are all equal then give exactly
    # that value in every resample, not that value give or take a rounding error.
    first = np.take_along_axis(values, included.argmax(axis=0)[None, :], axis=0)[0]
    total = np.where(included, values - first, 0.0).T @ counts.T
    size = counts.sum(axis=1)[None, :] if included.all() else included.T.astype(float) @ counts.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return first[:, None] + total / size


def interval(values: Floats, bootstrap: Bootstrap, strata: Sequence[str] | None = None) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of the mean of each cell.

    values: [rows, cells], NaN where a row is excluded from that cell.
    strata: [rows] groups that are resampled within themselves; None for one group.
    Returns (low, high), each [cells]: of zero width where all values are equal, NaN without a value.
    Resamples that drew none of a cell's rows are left out of that cell's quantiles.
    """
    counts = resample_counts([""] * len(values) if strata is None else strata, bootstrap)
    low, high = np.full((2, values.shape[1]), np.nan)
    for start in range(0, values.shape[1], _CELLS_AT_ONCE):
        part = slice(start, start + _CELLS_AT_ONCE)
        low[part], high[part] = quantiles(replicate_means(values[:, part], counts), bootstrap.level)
    return low, high


def quantiles(replicates: Floats, level: float) -> tuple[Floats, Floats]:
    """The central ``level`` of each row's replicates, NaN left out.

    replicates: [cells, resamples]. Returns (low, high), each [cells].
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.full((2, len(replicates)), np.nan)
    unknown = np.isnan(replicates)
    whole, some = ~unknown.any(axis=1), ~unknown.all(axis=1)
    low[whole], high[whole] = np.quantile(replicates[whole], tails, axis=1)
    for row in np.flatnonzero(some & ~whole):  # few rows: nanquantile is many times slower
        low[row], high[row] = np.quantile(replicates[row][~unknown[row]], tails)
    return low, high
