"""Concept Decodability (CD): can the task be told from a state by its nearest neighbours?

Leave-one-out kNN with majority vote over all labels' states pooled; CD is the share of points whose
vote is their own task (arXiv 2412.12276, section 3). The paper leaves open: the distance (Euclidean
here), normalisation (none), ties (the nearest neighbour among the tied), whether Null is a label (yes,
where the family includes it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from interventions.errors import SpecError
from interventions.measure.effects import Bootstrap
from interventions.measure.statistics import mean_and_interval
from interventions.store.schema import DECODABILITY

ALL = "ALL"


def neighbours(states: np.ndarray, k: int) -> np.ndarray:
    """states [point, d_model] -> indices [point, k] of each point's nearest others, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    if k >= len(states):
        raise SpecError(
            "decodability.k",
            f"{k} neighbours of {len(states)} points",
            f"use at most {len(states) - 1}, or more prompts",
        )
    # brute force: tree searches are slower than it beyond some twenty dimensions
    search = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(states)
    return search.kneighbors(return_distance=False)  # without a query, a point is no neighbour of itself


def votes(neighbour_labels: np.ndarray) -> np.ndarray:
    """[point, k] label numbers, nearest first -> [point] majority; ties go to the nearest of the tied."""
    labels = int(neighbour_labels.max()) + 1
    counts = (neighbour_labels[:, :, None] == np.arange(labels)).sum(1)
    most = np.take_along_axis(counts, neighbour_labels, axis=1) == counts.max(1, keepdims=True)
    return neighbour_labels[np.arange(len(most)), most.argmax(1)]


def decodability_table(
    found: np.ndarray, labels: Sequence[str], accuracy: np.ndarray, shots: Sequence[int], bootstrap: Bootstrap
) -> pl.DataFrame:
    """Neighbours of every point -> the rows of decodability.parquet.

    found [layer, shots, point, k] indices; labels [point]; accuracy [point, shots] exact match (0 or 1).
    Intervals: points resampled, their votes held fixed.
    """
    names = list(dict.fromkeys(labels))
    number = np.array([names.index(label) for label in labels])
    own = np.stack([[votes(number[f]) == number for f in layer] for layer in found]).astype(float)
    layers, _, points, k = found.shape
    rows = []
    for task in [*names, ALL]:
        chosen = np.ones(points, bool) if task == ALL else number == names.index(task)
        flat = own[:, :, chosen].reshape(layers * len(shots), -1).T  # [point, layer x shots]
        cd, low, high = mean_and_interval(flat, bootstrap.level, bootstrap.resamples, bootstrap.seed)
        right = accuracy[chosen].mean(0)
        for i, (layer, s) in enumerate(np.ndindex(layers, len(shots))):
            rows.append((task, layer, shots[s], k, int(chosen.sum()), cd[i], low[i], high[i], 1 / len(names), right[s]))
    return pl.DataFrame(rows, schema=DECODABILITY, orient="row")
