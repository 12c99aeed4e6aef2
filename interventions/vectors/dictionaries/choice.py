"""Which features an edit is of, chosen on fit prompts, and how active they are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from patchboard.vectors.base import Recipe
from patchboard.vectors.dictionaries.activations import Activations, activations_of, mean_of, rate_of
from patchboard.vectors.dictionaries.weights import all_features, some_features
from patchboard.vectors.make import Fits
from patchboard.vectors.statistics import PlaceStatistics

NEAREST = 10
"""Features of the most similar rates, of which a random counterpart is drawn."""


@dataclass(frozen=True)
class Choice:
    """numbers: features of the dictionary. first, second: their mean activations in the fit prompts of the two sources
    (NaN where there is no second); rate: share of fit prompts in which they are active; largest: of all."""

    numbers: tuple[int, ...]
    first: tuple[float, ...]
    second: tuple[float, ...]
    rate: tuple[float, ...]
    largest: tuple[float, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One for each feature."""
        named = ("feature", "mean_first", "mean_second", "rate", "largest")
        values = zip(self.numbers, self.first, self.second, self.rate, self.largest, strict=True)
        return [dict(zip(named, row, strict=True)) for row in values]


def choices(recipes: Mapping[str, Recipe], fits: Fits) -> dict[str, Choice]:
    """Key -> the features of each recipe of a dictionary."""
    ours = {key: recipe for key, recipe in recipes.items() if recipe.dictionary is not None}
    return {key: _choice(recipe, fits[recipe.fit, recipe.place]) for key, recipe in ours.items()}


def _choice(recipe: Recipe, statistics: PlaceStatistics) -> Choice:
    options = dict(recipe.options)
    numbers = list(options.get("features", ()))
    # of named features their own columns are enough, here as on a host, which has no others
    alone = tuple(numbers) if recipe.draw < 0 else ()
    first, second = (
        [_task(recipe, statistics, task, alone) for task in tasks] for tasks in (recipe.plus, recipe.minus)
    )
    mean, other = mean_of(first), mean_of(second) if second else None
    all_of_them = list({id(task): task for task in (*first, *second)}.values())
    rate = rate_of(all_of_them)
    largest = torch.stack([task.largest for task in all_of_them]).amax(0)
    if other is not None:
        numbers = most_different(mean, other, options["top"], options["by"])
    if recipe.draw >= 0:
        numbers = random_counterparts(numbers, rate, torch.Generator().manual_seed(recipe.seed))
    nothing = torch.full_like(mean, float("nan"))
    at = range(len(numbers)) if alone else numbers
    told = (mean, nothing if other is None else other, rate, largest)
    return Choice(tuple(numbers), *(tuple(values[list(at)].tolist()) for values in told))


def _task(recipe: Recipe, statistics: PlaceStatistics, task: str, alone: tuple[int, ...]) -> Activations:
    """Of one task's fit prompts; computed once for all recipes. alone: these features and no others; none: all."""
    dictionary = recipe.dictionary
    assert dictionary is not None
    key = (dictionary, task, recipe.layer, recipe.only, alone)
    if key not in statistics.activations:
        states = statistics.states_of([task], recipe.layer, recipe.only)
        every = some_features(dictionary, alone, torch.zeros(len(alone))) if alone else all_features(dictionary)
        statistics.activations[key] = activations_of(every, states)
    return statistics.activations[key]


def most_different(first: Tensor, second: Tensor, top: int, by: str) -> list[int]:
    """The features whose means differ most, the largest difference first; of equal ones the lower number. by: ``size``
    up or down, ``rise`` those that are larger in the first, ``fall`` in the second."""
    gap = first - second
    size = {"size": gap.abs(), "rise": gap, "fall": -gap}[by]
    return size.argsort(descending=True, stable=True)[:top].tolist()


def random_counterparts(numbers: Sequence[int], rate: Tensor, generator: torch.Generator) -> list[int]:
    """For each feature another one of the dictionary, none twice: one of the ``NEAREST`` whose rates of activity are
    nearest to its own, at random (of equally near ones at random too)."""
    left = torch.ones(len(rate), dtype=torch.bool)
    left[list(numbers)] = False
    drawn = []
    for number in numbers:
        others = left.nonzero().flatten()
        others = others[torch.randperm(len(others), generator=generator)]
        near = others[(rate[others] - rate[number]).abs().argsort(stable=True)[:NEAREST]]
        chosen = int(near[torch.randint(len(near), (1,), generator=generator)])
        left[chosen] = False
        drawn.append(chosen)
    return drawn
