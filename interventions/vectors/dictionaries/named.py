"""Features that a spec names, made where the model is: of their own columns, and of states there.

Travels to a server as source: torch and plain data.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from patchboard.ops import FeatureTensors
from patchboard.vectors.base import Operand, Recipe
from patchboard.vectors.function import Project
from patchboard.vectors.make import Fits

ROWS = 64
"""States that are encoded at once: of a million features a quarter of a gigabyte."""


def named_operands(recipes: Mapping[str, Recipe], fits: Fits, project: Project) -> dict[str, Operand]:
    """Key -> operand of each recipe, whose ``given`` has the features' tensors: as ``operands.feature_operands``."""
    made = {}
    for key, recipe in recipes.items():
        options, statistics = dict(recipe.options), fits[recipe.fit, recipe.place]
        features = FeatureTensors(*recipe.given.tensors, options["norm"], options["centred"])  # type: ignore[union-attr]
        largest = torch.zeros(len(features.numbers))
        for task in recipe.plus:
            states = statistics.states_of([task], recipe.layer, recipe.only)
            largest = torch.maximum(largest, largest_of(features, states))
        features.target = largest * options["value"]
        made[key] = summed(features, largest) if options["summed"] else features
    return made


def largest_of(features: FeatureTensors, states: Tensor) -> Tensor:
    """[feature] the largest activation in states [prompt, d_model]. In float32, as an edit computes them."""
    largest = torch.zeros(len(features.numbers))
    for rows in states.float().split(ROWS):
        largest = torch.maximum(largest, features.active(rows)[0].amax(0))
    return largest


def summed(features: FeatureTensors, activations: Tensor) -> Tensor:
    """[d_model], float64: what these features write at these activations [feature]."""
    return activations.double() @ features.decoder.double()
