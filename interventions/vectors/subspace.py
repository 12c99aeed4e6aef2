"""Concept subspaces: the directions in which the tasks' states differ, found by PCA or LEACE."""

from __future__ import annotations

import torch
from torch import Tensor

from patchboard.ops.base import SubspaceTensors
from patchboard.vectors.base import Recipe
from patchboard.vectors.statistics import PlaceStatistics


def build_subspace(recipe: Recipe, statistics: PlaceStatistics) -> SubspaceTensors:
    """The subspace of a recipe's labels, by its method."""
    if recipe.method == "leace":
        return _leace(recipe, statistics)
    columns = slice(*(recipe.columns or (None,)))
    return pca_subspace(statistics.means(recipe.plus, recipe.layer, recipe.only)[:, columns], recipe.rank)


def build_pca(recipe: Recipe, statistics: PlaceStatistics) -> SubspaceTensors:
    """The leading principal directions of the states of a recipe's tasks; of fewer prompts than ranks, as many as they
    span."""
    columns = slice(*(recipe.columns or (None,)))
    return pca_subspace(statistics.states_of(recipe.plus, recipe.layer, recipe.only)[:, columns], recipe.rank)


def _leace(recipe: Recipe, statistics: PlaceStatistics) -> SubspaceTensors:
    """Fitted once for all ranks and random counterparts."""
    key = recipe.layer, recipe.only
    if key not in statistics.erasers:
        statistics.erasers[key] = leace_subspace(*statistics.labelled(*key))
    whole = statistics.erasers[key]
    left, right = whole.left[:, : recipe.rank], whole.right[: recipe.rank]
    return SubspaceTensors(left.contiguous(), right.contiguous(), whole.center)


LEACE_TOLERANCE = 0.01
"""Of whitened states against labels: directions of smaller singular values tell nothing of them."""


def pca_subspace(means: Tensor, rank: int) -> SubspaceTensors:
    """The ``rank`` leading principal directions of task means [task, d_model], or of states, about their mean.

    Projection is orthogonal: left = right.T. At rank = tasks - 1 all means coincide after ablation.
    """
    center = means.mean(0)
    _, _, directions = torch.linalg.svd(means - center, full_matrices=False)
    right = directions[:rank].contiguous()
    return SubspaceTensors(left=right.T.contiguous(), right=right, center=center)


def leace_subspace(states: Tensor, labels: Tensor) -> SubspaceTensors:
    """LEACE's oblique projection, one direction a label, the strongest first (all of them erase the labels linearly).

    states [prompt, d_model], labels [prompt] in 0 … label - 1. Source: Belrose et al. 2023, arXiv 2306.03819, with
    the covariance shrunk as in arXiv 1308.2608. Shrunk, a covariance S of n prompts is a S + c I: what is no multiple
    of I lies in the span of the centred states, so their singular vectors replace matrices of d_model squared.
    """
    n, width = states.shape
    center = states.mean(0)
    u, s, vh = torch.linalg.svd(states - center, full_matrices=False)
    variances = s.square() / n  # of S, along vh; none elsewhere
    kept, isotropic = shrinkage(variances, n, width)
    shrunk = kept * variances + isotropic
    largest = shrunk.max().clamp(min=isotropic) if len(s) < width else shrunk.max()
    mask = shrunk > largest * width * torch.finfo(shrunk.dtype).eps
    deviation = shrunk.clamp(min=0).sqrt()
    whitening = torch.where(mask, 1 / deviation, 0.0)
    one_hot = torch.nn.functional.one_hot(labels).to(states.dtype)
    cross = s[:, None] * (u.T @ (one_hot - one_hot.mean(0))) / (n - 1)
    white = whitening[:, None] * cross
    directions, strength, _ = torch.linalg.svd(white, full_matrices=False)
    directions = directions * (strength > LEACE_TOLERANCE)
    left = vh.T @ (torch.where(mask, deviation, 0.0)[:, None] * directions)
    right = (directions.T * whitening) @ vh
    return SubspaceTensors(left=left, right=right, center=center)


def shrinkage(variances: Tensor, n: int, width: int) -> tuple[float, float]:
    """(a, c) of the optimal linear shrinkage a S + c I of a covariance S. variances: its eigenvalues but for zeros.

    Source: Bodnar, Gupta, Parolya 2014, arXiv 1308.2608.
    """
    trace, square = float(variances.sum()), float(variances.square().sum())
    spread = square - trace**2 / width
    if spread <= 0:  # isotropic already, or nothing at all
        return 0.0, trace / width
    kept = 1 - trace**2 / n / spread
    return kept, (1 - kept) * trace / width


def random_subspace(like: SubspaceTensors, generator: torch.Generator) -> SubspaceTensors:
    """An orthonormal basis of as many random directions, about the same centre."""
    width, rank = like.left.shape
    drawn = torch.randn(width, rank, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(drawn)
    right = basis.T.contiguous()
    return SubspaceTensors(left=basis.contiguous(), right=right, center=like.center)
