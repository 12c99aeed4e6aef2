"""Directions of linear probes: what separates two sets of states, in place of what lies between their means.

Travels to a server as source: torch and plain data.
"""

from __future__ import annotations

import torch
from torch import Tensor

from patchboard.vectors.base import Recipe
from patchboard.vectors.statistics import PlaceStatistics
from patchboard.vectors.subspace import shrinkage

ROUNDS = 100
"""Newton steps at most; some ten are enough but for nearly separable states under a tiny penalty."""


def build_mass_mean(recipe: Recipe, statistics: PlaceStatistics) -> Tensor:
    """The mass-mean direction of a recipe's two sources."""
    return mass_mean_vector(*two_sets(recipe, statistics))


def build_logistic(recipe: Recipe, statistics: PlaceStatistics) -> Tensor:
    """The logistic direction of a recipe's two sources."""
    return logistic_vector(*two_sets(recipe, statistics), dict(recipe.options)["l2"])


def two_sets(recipe: Recipe, statistics: PlaceStatistics) -> tuple[Tensor, Tensor]:
    """States [prompt, d_model], float64, of the first source and of the second. What one of the two is a part of, as a
    task is of all_tasks, is taken without it."""
    first, second = list(recipe.plus), list(recipe.minus)
    if set(first) < set(second):
        second = [task for task in second if task not in first]
    elif set(second) < set(first):
        first = [task for task in first if task not in second]
    columns = slice(*(recipe.columns or (None,)))
    sets = [statistics.states_of(tasks, recipe.layer, recipe.only)[:, columns] for tasks in (first, second)]
    return sets[0], sets[1]


def as_long_as_the_difference(direction: Tensor, difference: Tensor) -> Tensor:
    """The direction at the length of the difference of the two means, so that strengths of both mean alike."""
    length = direction.norm()
    return direction * (difference.norm() / length) if float(length) > 0 else difference


def mass_mean_vector(positive: Tensor, negative: Tensor) -> Tensor:
    """S^-1 (mean of positive - mean of negative), scaled to the length of that difference.

    positive, negative [prompt, d_model]; S is the covariance of the states about the mean of their own set, shrunk as
    in arXiv 1308.2608 to a S + c I. Source: Marks & Tegmark 2023, arXiv 2310.06824. What is no multiple of I lies in
    the span of the centred states, so that no matrix of d_model squared is made.
    """
    difference = positive.mean(0) - negative.mean(0)
    centred = torch.cat([positive - positive.mean(0), negative - negative.mean(0)])
    n, width = centred.shape
    _, s, vh = torch.linalg.svd(centred, full_matrices=False)
    variances = s.square() / n
    kept, isotropic = shrinkage(variances, n, width)
    if isotropic <= 0:  # all states of a set are one
        return difference
    inside = vh @ difference
    outside = difference - vh.T @ inside
    return as_long_as_the_difference(
        vh.T @ (inside / (kept * variances + isotropic)) + outside / isotropic, difference
    )  # fmt: skip


def logistic_vector(positive: Tensor, negative: Tensor, l2: float) -> Tensor:
    """The weights w of a logistic regression that tells the two sets apart, scaled to the length of their difference:

        minimise over w, b   sum_i c_i log(1 + exp(-y_i (w x_i + b))) + l2 / 2 |w|^2

    with y_i = +1 for positive and -1 for negative, c_i such that both sets weigh n / 2, and x_i the states about their
    mean over their root mean square, so that l2 is of no unit. By Newton's method in the span of the states, float64.
    """
    states = torch.cat([positive, negative])
    n, sizes = len(states), (len(positive), len(negative))
    y = torch.cat([torch.ones(sizes[0]), -torch.ones(sizes[1])]).to(states)
    weights = torch.cat([torch.full((size,), n / 2 / size) for size in sizes]).to(states)
    centred = states - states.mean(0)
    scale = centred.square().mean().sqrt()
    difference = positive.mean(0) - negative.mean(0)
    if float(scale) == 0:
        return difference
    u, s, vh = torch.linalg.svd(centred / scale, full_matrices=False)
    x = torch.cat([u * s, torch.ones(n, 1).to(states)], 1)  # coordinates along vh, and the intercept's
    penalty = torch.cat([torch.full((len(s),), float(l2)), torch.zeros(1)]).to(states)
    w = torch.zeros(x.shape[1]).to(states)
    loss = _loss(x, y, weights, penalty, w)
    for _ in range(ROUNDS):
        p = torch.sigmoid(-y * (x @ w))
        gradient = -(x.T @ (weights * y * p)) + penalty * w
        curvature = x.T @ ((weights * p * (1 - p))[:, None] * x) + torch.diag(penalty + 1e-12)
        step, size = torch.linalg.solve(curvature, gradient), 1.0
        while size > 1e-6 and float(_loss(x, y, weights, penalty, w - size * step)) > float(loss):
            size /= 2
        w, before = w - size * step, loss
        loss = _loss(x, y, weights, penalty, w)
        if float(before - loss) <= 1e-13 * float(before):
            break
    return as_long_as_the_difference(vh.T @ w[:-1], difference)


def _loss(x: Tensor, y: Tensor, weights: Tensor, penalty: Tensor, w: Tensor) -> Tensor:
    return (weights * torch.nn.functional.softplus(-y * (x @ w))).sum() + (penalty * w.square()).sum() / 2
