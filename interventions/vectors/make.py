"""Recipes + statistics -> frozen operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from patchboard.ops import FeatureTensors, SubspaceTensors
from patchboard.vectors.base import Operand, Place, Recipe
from patchboard.vectors.fitters import builders
from patchboard.vectors.function import Project
from patchboard.vectors.statistics import PlaceStatistics
from patchboard.vectors.subspace import random_subspace

Build = Callable[..., Any]
Fits = Mapping[tuple[str, Place], PlaceStatistics]


def make_all(
    recipes: Mapping[str, Recipe],
    fits: Fits,
    project: Project,
    of_one: Mapping[str, Build],
    of_all: Mapping[str, Build],
) -> dict[str, Operand]:
    """Key -> operand, float32: a vector [d_model], or a subspace of [d_model, rank] and [rank, d_model].

    project: for kinds that statistics alone do not make. of_one, of_all: what makes each kind, as
    ``fitters.builders`` gives it. Travels to a server.
    """
    joint: dict[str, Any] = {}
    for kind, build in of_all.items():
        joint.update(build({key: recipe for key, recipe in recipes.items() if recipe.kind == kind}, fits, project))
    return {
        key: _finished(
            recipe, joint[key] if key in joint else of_one[recipe.kind](recipe, fits[recipe.fit, recipe.place])
        )
        for key, recipe in recipes.items()
    }


def make_here(recipes: Mapping[str, Recipe], fits: Fits, project: Project) -> dict[str, Operand]:
    """As ``make_all``, with what makes the recipes' kinds in this process."""
    made_by = builders(recipe.kind for recipe in recipes.values())
    return make_all(recipes, fits, project, made_by.of_one, made_by.of_all)


def _finished(recipe: Recipe, fitted: Operand) -> Operand:
    if isinstance(fitted, FeatureTensors):
        return fitted
    if recipe.neurons and not isinstance(fitted, SubspaceTensors):  # of which none is taken in part
        fitted = fitted[list(recipe.neurons)]
    if recipe.draw >= 0 and recipe.dictionary is None:  # whose counterparts are other features
        fitted = _random_counterpart(fitted, recipe)
    if isinstance(fitted, SubspaceTensors):
        return SubspaceTensors(fitted.left.float(), fitted.right.float(), fitted.center.float())
    return fitted.float()


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
