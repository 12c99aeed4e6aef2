"""Percentile bootstrap of means, vectorised over cells, with one set of resamples for all of them.

A resample of queries is a vector of counts, so all resamples of all cells are one matrix product:
``means = (W @ (mask * D)) / (W @ mask)``, W [resamples, rows] multinomial counts, D [rows, cells].
Cells share W, so a difference between two cells of the same queries is a paired difference. Sums add up over
strata, so neither W nor D is ever held for more than one of them.

Source: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 (percentile
interval) and 8.2 (several samples: each is resampled within itself).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.uint8]

_COUNTS_AT_ONCE = 1 << 25
"""Bounds the counts held at once: 32 MiB, all 2000 resamples of 16,000 queries."""
_COUNTS_KEPT = 1 << 22
"""Counts of a stratum that are kept for another time: 4 MiB, all 2000 resamples of 2000 queries."""
_FLOATS_AT_ONCE = 1 << 21
"""Bounds every other array here: 16 MiB, the replicates of 1000 cells, or 200 resamples of 10,000 queries."""


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the intervals: number of resamples, coverage in (0, 1) (0.95 for 95 %), seed."""

    resamples: int
    level: float
    seed: int

    @property
    def cells_at_once(self) -> int:
        """Cells whose replicates may be held together."""
        return max(1, _FLOATS_AT_ONCE // self.resamples)


def drawn(stratum: str, rows: int, bootstrap: Bootstrap) -> Iterator[tuple[slice, Counts]]:
    """How often each of a stratum's rows is drawn in each resample, a slice of the resamples at a time.

    Yields (which resamples, counts [resamples, rows]); each row of counts adds up to ``rows``. The draws
    depend only on the seed, the stratum's name and its size, not on the slicing: two tables over the same
    queries are resampled alike, whatever else they hold.
    """
    if bootstrap.resamples * rows <= _COUNTS_KEPT:
        yield slice(0, bootstrap.resamples), _drawn_once(stratum, rows, bootstrap)
    else:
        yield from _draw(stratum, rows, bootstrap)


def _draw(stratum: str, rows: int, bootstrap: Bootstrap) -> Iterator[tuple[slice, Counts]]:
    rng = np.random.default_rng([bootstrap.seed, zlib.crc32(stratum.encode())])
    shares = np.full(rows, 1 / rows)
    for held in _slices(bootstrap.resamples, _COUNTS_AT_ONCE // rows):
        counts = np.empty((held.stop - held.start, rows), dtype=np.uint8)
        for part in _slices(len(counts), _FLOATS_AT_ONCE // rows):
            # a row's count is about Poisson of mean 1: 256 of them do not happen
            counts[part] = rng.multinomial(rows, shares, size=part.stop - part.start)
        yield held, counts


@lru_cache(maxsize=16)
def _drawn_once(stratum: str, rows: int, bootstrap: Bootstrap) -> Counts:
    """All of a small stratum's draws: every setting of a sweep asks for those of the same tasks again."""
    return np.concatenate([counts for _, counts in _draw(stratum, rows, bootstrap)])


class Replicates:
    """The mean of each cell in each resample, added up stratum by stratum; with a ``divisor`` the ratio of two means,
    both of the same resample."""

    def __init__(self, cells: int, resamples: int):
        self.divisor: Replicates | None = None
        self._first = np.full(cells, np.nan)
        self._total = np.zeros((cells, resamples))
        self._size = np.zeros((cells, resamples))

    def add(self, values: Floats, counts: Counts, cells: slice, resamples: slice) -> None:
        """Add one stratum's values of some cells in some resamples.

        values: [rows, cells], NaN where a row is excluded from that cell. counts: [resamples, rows].
        """
        included = ~np.isnan(values)
        # Measured from one of the cell's own values: cells whose rows are all equal then give exactly
        # that value in every resample, not that value give or take a rounding error.
        first = self._first[cells]
        own = np.take_along_axis(values, included.argmax(axis=0)[None, :], axis=0)[0]
        first[:] = np.where(np.isnan(first), own, first)
        centred = np.where(included, values - first, 0.0)
        sizes = None if included.all() else included.astype(float)
        total, size = self._total[cells, resamples], self._size[cells, resamples]
        for part in _slices(len(counts), _FLOATS_AT_ONCE // len(values)):
            weights = counts[part].astype(float).T
            total[:, part] += centred.T @ weights
            size[:, part] += len(values) if sizes is None else sizes.T @ weights

    def means(self, cells: slice = slice(None)) -> Floats:
        """[cells, resamples]; NaN in a resample that drew none of a cell's rows."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = self._first[cells, None] + self._total[cells] / self._size[cells]
            return means if self.divisor is None else means / self.divisor.means(cells)

    def forget(self, cells: NDArray[np.bool_]) -> None:
        """Leave nothing known of these cells [cells]."""
        self._first[cells] = np.nan

    def interval(self, level: float) -> tuple[Floats, Floats]:
        """(low, high), each [cells]: the central ``level`` of each cell's replicates."""
        low, high = np.full((2, len(self._first)), np.nan)
        at_once = _FLOATS_AT_ONCE // 8 // self._total.shape[1]  # quantiles take several times what they are given
        for part in _slices(len(low), at_once):
            low[part], high[part] = quantiles(self.means(part), level)
        return low, high


def interval(values: Floats, bootstrap: Bootstrap, strata: Sequence[str] | None = None) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of the mean of each cell.

    values: [rows, cells], NaN where a row is excluded from that cell.
    strata: [rows] groups (task, label) that are resampled within themselves, and keep their sizes; None for
    one group.
    Returns (low, high), each [cells]: of zero width where all values are equal, NaN without a value.
    Resamples that drew none of a cell's rows are left out of that cell's quantiles.
    """
    names = np.asarray([""] * len(values) if strata is None else strata, dtype=object)
    low, high = np.full((2, values.shape[1]), np.nan)
    for part in _slices(len(low), bootstrap.cells_at_once):
        replicates = Replicates(part.stop - part.start, bootstrap.resamples)
        for name in dict.fromkeys(names.tolist()):
            rows = values[names == name, part]
            for resamples, counts in drawn(str(name), len(rows), bootstrap):
                replicates.add(rows, counts, slice(None), resamples)
        low[part], high[part] = replicates.interval(bootstrap.level)
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


def _slices(length: int, at_once: int) -> Iterator[slice]:
    """``range(length)`` in pieces of at most ``at_once``, at least 1."""
    for start in range(0, length, max(1, at_once)):
        yield slice(start, min(start + max(1, at_once), length))
