"""The nearest neighbours of points, and what they vote for. Runs where the states are: torch and numpy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_ROWS_AT_ONCE = 1024


def nearest(states: Tensor, k: int) -> Tensor:
    """The k nearest other points of each point by Euclidean distance, nearest first: [points, k] indices.

    states: [points, d_model], finite, more than k points. In float64, autocast or not. Distances that differ
    by less than 1e-12 of the largest squared norm are ties; ties are broken in one fixed random order, since
    points come sorted by label and the first label must not win them.
    """
    with torch.autocast(states.device.type, enabled=False):
        points = states.double()
        # A few residual dimensions are often hundreds of times the rest, at every point. Distances do not
        # see a common offset, but |x|^2 - 2xy + |y|^2, by which they are computed, loses digits to it.
        points = points - points.mean(0)
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0)).to(points.device)
        others = points[order]
        squares = (others * others).sum(1)
        grain = squares.max().clamp(min=1e-300) * 1e-12
        neighbours = []
        for start in range(0, len(points), _ROWS_AT_ONCE):
            some = points[start : start + _ROWS_AT_ONCE]
            distance = ((squares - 2 * some @ others.T + (some * some).sum(1)[:, None]) / grain).round()
            own = torch.arange(start, start + len(some), device=points.device)
            distance[order == own[:, None]] = float("inf")
            neighbours.append(order[distance.argsort(dim=1, stable=True)[:, :k]])
        return torch.cat(neighbours)


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


def voted(states: Tensor, labels: Tensor, k: int) -> Tensor:
    """The label that each point's k nearest other points vote for: [points], int64 on the CPU.

    states [points, d_model]; labels [points] int64.
    """
    return torch.from_numpy(votes(labels[nearest(states, k).cpu()].numpy()))


def shuffled_hits(neighbours: NDArray[np.int64], permuted: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many points of each permuted label are voted for rightly: [permutations, labels].

    neighbours [points, k] indices, nearest first; permuted [permutations, points] codes from 0.
    """
    labels = int(permuted.max()) + 1
    own = (codes[votes(codes[neighbours]) == codes] for codes in permuted)
    return np.array([np.bincount(hits, minlength=labels) for hits in own], dtype=np.int64)
