"""Concept Decodability: can a prompt's task be read off its state by its nearest neighbours?

CD = fraction of points whose k nearest other points vote for the point's own task. Leave-one-out:
a point never votes for itself. Source: arXiv 2412.12276, section 3 (k = 10, 100 prompts a task);
the distance and the breaking of ties are not stated there, and are Euclidean and "nearest" here.

The search (``nearest.voted``) needs the states, the table only the votes that it returns: a remote
run leaves the states where they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from patchboard.errors import SpecError
from patchboard.measure.floors import NO_FLOORS, FloorVotes, of_shuffled, of_twin
from patchboard.measure.statistics import Bootstrap, Floats, interval
from patchboard.store.schema import DECODABILITY, FLOORS

ALL = "ALL"
"""The row of all labels together, beside one row a label."""


def check_k(k: int, points: int) -> None:
    """Raises SpecError where k other points are not to be had."""
    if k > points - 1:
        raise SpecError(
            "decodability.k",
            f"{k} neighbours wanted, a point has {points - 1} others",
            "use a smaller k or more decodability.prompts",
        )


def label_codes(labels: Sequence[str]) -> NDArray[np.int64]:
    """[points] each label's place among the different ones, in their order of appearance."""
    place = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([place[label] for label in labels], dtype=np.int64)


def decodability_table(
    voted: ArrayLike,
    labels: Sequence[str],
    accuracy: ArrayLike | None,
    shots: Sequence[int],
    k: int,
    bootstrap: Bootstrap,
    floors: FloorVotes = NO_FLOORS,
) -> pl.DataFrame:
    """CD of each label, and of ALL, for every layer and number of shots: store.schema.DECODABILITY, and of FLOORS those
    that ``floors`` holds.

    voted: [layers, shots, points] codes (``label_codes``) of the labels that each point's k neighbours vote for.
    labels: [points] the task of each point.
    accuracy: [points, shots] exact match of each prompt's answer, NaN where none; None: not measured.
    shots: the numbers of shots along that axis; layers count from 0.
    floors: votes of the same points.

    Points are resampled within each label, their neighbours as they are: the interval is of this
    graph's hit rate, not of a search among other points.
    """
    votes, names = np.asarray(voted), np.asarray(labels)
    layers = len(votes)
    assert votes.shape[1:] == (len(shots), len(names)), "one vote per layer, shots and point"
    right = _hits(votes, labels)
    twin = None if floors.twin is None else _hits(floors.twin, labels)
    unknown = np.full((len(names), len(shots)), np.nan)
    exact = unknown if accuracy is None else np.asarray(accuracy, dtype=float)
    different = list(dict.fromkeys(labels))

    tables = []
    for label in (*different, ALL):
        rows = np.flatnonzero(names == label) if label != ALL else np.arange(len(names))
        hits = right[rows].astype(float)  # [rows, layers * shots]
        strata = names[rows].tolist()
        low, high = interval(hits, bootstrap, strata)
        beside = {} if twin is None else dict(of_twin(hits, twin[rows].astype(float), bootstrap, strata))
        if floors.shuffled is not None:
            own = floors.shuffled[..., different.index(label)] if label != ALL else floors.shuffled.sum(axis=-1)
            beside |= of_shuffled(own.reshape(len(own), -1), len(rows), bootstrap.level)
        tables.append(
            pl.DataFrame(
                {
                    "layer": np.repeat(np.arange(layers), len(shots)),
                    "shots": np.tile(np.asarray(shots), layers),
                    "cd": hits.mean(axis=0),
                    "ci_low": low,
                    "ci_high": high,
                    "accuracy": np.tile(_mean_of_known(exact[rows]), layers),
                    **beside,
                }
            ).with_columns(task=pl.lit(label), k=k, n=len(rows), chance=1.0 / len(different))
        )
    table = pl.concat(tables)
    columns = DECODABILITY | {column: kind for column, kind in FLOORS.items() if column in table.columns}
    return table.select(pl.col(column).cast(kind) for column, kind in columns.items())


def _hits(voted: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.bool_]:
    """[points, layers * shots] whether a point's neighbours vote for its own label."""
    return (voted == label_codes(labels)).reshape(-1, len(labels)).T


def _mean_of_known(values: Floats) -> Floats:
    """[rows, shots] -> [shots], NaN left out; NaN where nothing is known."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
