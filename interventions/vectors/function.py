"""Function vectors: what some attention heads together write into the residual stream, on average.

Travels to a server as source: torch and plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.statistics import PlaceStatistics

Project = Callable[[dict[int, Tensor]], dict[int, Tensor]]
"""Block -> [row, heads * head_dim], heads side by side; gives each row through that block's output projection,
[row, d_model], without its bias (``engine.projection``)."""


def function_vectors(
    recipes: Mapping[str, Recipe], fits: Mapping[tuple[str, Place], PlaceStatistics], project: Project
) -> dict[str, Tensor]:
    """Key -> vector [d_model], float64, of each recipe, all of kind function_vector:

        v = sum over (l, h) of W_O[l][:, h] mean_h

    with mean_h [head_dim] the mean over fit prompts of head h's own output in block l, and W_O[l][:, h] the columns of
    the output projection that head h is multiplied by. The projection's bias is no head's and left out, and so is a
    norm that some families put behind the attention. Source: Todd et al. 2024, arXiv 2310.15213.
    """
    rows: dict[int, list[Tensor]] = {}
    parts: dict[Any, list[tuple[int, int]]] = {}  # what decides a vector -> (block, row) of its parts
    for recipe in recipes.values():
        if _identity(recipe) not in parts:
            places = parts[_identity(recipe)] = []
            for block, means in heads_means(recipe, fits[recipe.fit, recipe.place]).items():
                places.append((block, len(rows.setdefault(block, []))))
                rows[block].append(means)
    written = project({block: torch.stack(means) for block, means in rows.items()})
    sums = {
        identity: torch.stack([written[block][row].double() for block, row in places]).sum(0)
        for identity, places in parts.items()
    }
    return {key: sums[_identity(recipe)] for key, recipe in recipes.items()}


def _identity(recipe: Recipe) -> tuple:
    """What decides the vector: one that is used at many layers is made once."""
    return recipe.fit, recipe.place, recipe.only, recipe.plus, recipe.heads


def heads_means(recipe: Recipe, statistics: PlaceStatistics) -> dict[int, Tensor]:
    """Block -> [heads * head_dim]: the mean outputs of the recipe's heads in that block, zero for all others."""
    of_block: dict[int, Tensor] = {}
    for block, start, stop in recipe.heads:
        means = statistics.means(recipe.plus, block, recipe.only).mean(0)
        of_block.setdefault(block, torch.zeros_like(means))[start:stop] = means[start:stop]
    return of_block
