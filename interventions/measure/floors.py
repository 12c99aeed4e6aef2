"""What CD is where nothing was learned, or where no label means anything: an untrained twin's, and of shuffled labels.

Both are asked of the same points. The twin's hits are paired with the model's, point by point; shuffled labels are
voted for by the model's own neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from patchboard.measure.statistics import Bootstrap, Floats, interval, quantiles


@dataclass(frozen=True)
class FloorVotes:
    """twin: [layers, shots, points] codes that the neighbours in the untrained twin vote for; None without a twin.

    shuffled: [permutations, layers, shots, labels] hits under permuted labels, by the label that a point was given;
    None without any.
    """

    twin: NDArray[np.int64] | None = None
    shuffled: NDArray[np.int64] | None = None


NO_FLOORS = FloorVotes()


def floors_in(decodability: pl.DataFrame) -> list[str]:
    """Which of ``twin`` and ``shuffled`` rows of CD have beside them."""
    known = (name for name in ("twin", "shuffled") if name in decodability.columns)
    return [name for name in known if decodability[name].is_not_null().any()]


def permutations(codes: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """[count, points] the labels' codes in ``count`` random orders; the first ones stay the same for a larger count."""
    draw = np.random.default_rng(seed)
    return np.array([draw.permutation(codes) for _ in range(count)], dtype=np.int64).reshape(count, len(codes))


def of_twin(hits: Floats, twin: Floats, bootstrap: Bootstrap, strata: list[str]) -> Iterator[tuple[str, Floats]]:
    """store.schema.TWIN, each [cells]. hits, twin: [points, cells] 0 or 1 of the same points; strata: their labels."""
    difference = hits - twin
    for name, values in (("twin", twin), ("above_twin", difference)):
        low, high = interval(values, bootstrap, strata)
        yield from ((name, values.mean(axis=0)), (f"{name}_low", low), (f"{name}_high", high))


def of_shuffled(hits: NDArray[np.int64], points: int, level: float) -> Iterator[tuple[str, Floats]]:
    """store.schema.SHUFFLED, each [cells]. hits: [permutations, cells] of so many points."""
    shares = hits / points
    low, high = quantiles(shares.T, level)
    yield from (("shuffled", shares.mean(axis=0)), ("shuffled_low", low), ("shuffled_high", high))
