"""Recipes + statistics -> frozen operands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from patchboard.ops.base import SubspaceTensors
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.function import Project, function_vectors
from patchboard.vectors.statistics import PlaceStatistics
from patchboard.vectors.subspace import leace_subspace, pca_subspace, random_subspace

Fits = Mapping[tuple[str, Place], PlaceStatistics]


def make_all(recipes: Mapping[str, Recipe], fits: Fits, project: Project) -> dict[str, Tensor | SubspaceTensors]:
    """Key -> operand. project: for function vectors, which statistics alone do not make."""
    summed = function_vectors(recipes, fits, project)
    return {
        key: _finished(recipe, summed[key]) if key in summed else make(recipe, fits) for key, recipe in recipes.items()
    }


def make(recipe: Recipe, fits: Fits) -> Tensor | SubspaceTensors:
    """The operand, float32: a vector [d_model], or a subspace of [d_model, rank] and [rank, d_model].

    recipe: of any kind but function_vector.
    """
    return _finished(recipe, _fitted(recipe, fits[recipe.fit, recipe.place]))


def _finished(recipe: Recipe, fitted: Tensor | SubspaceTensors) -> Tensor | SubspaceTensors:
    if recipe.draw >= 0:
        fitted = _random_counterpart(fitted, recipe)
    if isinstance(fitted, SubspaceTensors):
        return SubspaceTensors(fitted.left.float(), fitted.right.float(), fitted.center.float())
    return fitted.float()


def _fitted(recipe: Recipe, statistics: PlaceStatistics) -> Tensor | SubspaceTensors:
    if recipe.kind == "subspace":
        if recipe.method == "leace":
            return _leace(recipe, statistics)
        return pca_subspace(_means(recipe, recipe.plus, statistics), recipe.rank)
    vector = _means(recipe, recipe.plus, statistics).mean(0)
    if recipe.kind == "difference":
        vector = vector - _means(recipe, recipe.minus, statistics).mean(0)
    return vector


def _leace(recipe: Recipe, statistics: PlaceStatistics) -> SubspaceTensors:
    """Fitted once for all ranks and random counterparts."""
    key = recipe.layer, recipe.only
    if key not in statistics.erasers:
        statistics.erasers[key] = leace_subspace(*statistics.labelled(*key))
    whole = statistics.erasers[key]
    left, right = whole.left[:, : recipe.rank], whole.right[: recipe.rank]
    return SubspaceTensors(left.contiguous(), right.contiguous(), whole.center)


def _means(recipe: Recipe, tasks: Sequence[str], statistics: PlaceStatistics) -> Tensor:
    """[task, d_model], or one head's columns of it."""
    return statistics.means(tasks, recipe.layer, recipe.only)[:, slice(*(recipe.columns or (None,)))]


def _random_counterpart(fitted: Tensor | SubspaceTensors, recipe: Recipe) -> Tensor | SubspaceTensors:
    """Same norm (or rank), random direction."""
    generator = torch.Generator().manual_seed(recipe.seed)
    if isinstance(fitted, SubspaceTensors):
        return random_subspace(fitted, generator)
    return random_vector(fitted, generator)


def random_vector(like: Tensor, generator: torch.Generator) -> Tensor:
    """A vector of the same norm, float64, in a random direction."""
    direction = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return direction * (like.norm() / direction.norm())
