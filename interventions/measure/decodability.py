"""Concept Decodability: can a prompt's task be read off its state by its nearest neighbours?

CD = fraction of points whose k nearest other points vote for the point's own task. Leave-one-out:
a point never votes for itself. Source: arXiv 2412.12276, section 3 (k = 10, 100 prompts a task);
the distance and the breaking of ties are not stated there, and are Euclidean and "nearest" here.

The search (``neighbours``) needs the states, the table only the indices that it returns: a remote
run leaves the states where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from interventions.errors import EngineError, SpecError
from interventions.measure.statistics import Bootstrap, Floats, interval
from interventions.store.schema import DECODABILITY

ALL = "ALL"
"""The row of all labels together, beside one row a label."""


def neighbours(states: ArrayLike, k: int) -> NDArray[np.int32]:
    """The k nearest other points of each point, nearest first.

    states: [points, d_model], any float type. Returns [points, k] indices of points.
    Raises SpecError where k other points are not to be had, EngineError where a state is not finite.
    """
    from sklearn.neighbors import NearestNeighbors

    points = np.asarray(states, dtype=np.float64)
    if k > len(points) - 1:
        raise SpecError(
            "decodability.k",
            f"{k} neighbours wanted, a point has {len(points) - 1} others",
            "use a smaller k or more decodability.prompts",
        )
    if not np.isfinite(points).all():
        raise EngineError("decodability", "a state holds inf or NaN", "run with model.dtype: float32")
    # A few residual dimensions are often hundreds of times the rest, at every point. Distances do not
    # see a common offset, but |x|^2 - 2xy + |y|^2, by which they are computed, loses digits to it.
    search = NearestNeighbors(n_neighbors=k).fit(points - points.mean(axis=0))
    return search.kneighbors(return_distance=False).astype(np.int32)


def votes(neighbour_labels: ArrayLike) -> NDArray[Any]:
    """The label held by most neighbours; among the tied, that of the nearest neighbour holding one.

    neighbour_labels: [points, k], nearest first. Returns [points], of the same type.
    """
    held = np.asarray(neighbour_labels)
    names, codes = np.unique(held, return_inverse=True)
    codes = codes.reshape(held.shape)
    counts = (codes[:, :, None] == np.arange(len(names))).sum(axis=1)  # [points, labels]
    of_each_neighbour = np.take_along_axis(counts, codes, axis=1)  # [points, k]
    # argmax returns the first of equals: the nearest neighbour whose label has the most votes.
    return np.take_along_axis(held, of_each_neighbour.argmax(axis=1)[:, None], axis=1)[:, 0]


def decodability_table(
    found: ArrayLike,
    labels: Sequence[str],
    accuracy: ArrayLike | None,
    shots: Sequence[int],
    bootstrap: Bootstrap,
) -> pl.DataFrame:
    """CD of each label, and of ALL, for every layer and number of shots: store.schema.DECODABILITY.

    found: [layers, shots, points, k] indices from ``neighbours``, made at each layer and number of shots.
    labels: [points] the task of each point.
    accuracy: [points, shots] exact match of each prompt's answer, NaN where none; None: not measured.
    shots: the numbers of shots along that axis; layers count from 0.

    Points are resampled within each label, their neighbours as they are: the interval is of this
    graph's hit rate, not of a search among other points.
    """
    near = np.asarray(found)
    names = np.asarray(labels)
    layers, k = len(near), near.shape[-1]
    assert near.shape[1:3] == (len(shots), len(names)), "one list of neighbours per layer, shots and point"
    right = np.stack([votes(names[each]) == names for each in near.reshape(-1, len(names), k)], axis=1)
    unknown = np.full((len(names), len(shots)), np.nan)
    exact = unknown if accuracy is None else np.asarray(accuracy, dtype=float)
    different = list(dict.fromkeys(labels))

    tables = []
    for label in (*different, ALL):
        rows = np.flatnonzero(names == label) if label != ALL else np.arange(len(names))
        hits = right[rows].astype(float)  # [rows, layers * shots]
        low, high = interval(hits, bootstrap, names[rows].tolist())
        tables.append(
            pl.DataFrame(
                {
                    "layer": np.repeat(np.arange(layers), len(shots)),
                    "shots": np.tile(np.asarray(shots), layers),
                    "cd": hits.mean(axis=0),
                    "ci_low": low,
                    "ci_high": high,
                    "accuracy": np.tile(_mean_of_known(exact[rows]), layers),
                }
            ).with_columns(task=pl.lit(label), k=k, n=len(rows), chance=1.0 / len(different))
        )
    return pl.concat(tables).select(pl.col(column).cast(kind) for column, kind in DECODABILITY.items())


def _mean_of_known(values: Floats) -> Floats:
    """[rows, shots] -> [shots], NaN left out; NaN where nothing is known."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis=0) / known.sum(axis=0)
