"""Recipes of dictionaries + statistics of fit prompts -> what ops are given."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from patchboard.ops import FeatureTensors
from patchboard.vectors.base import Operand, Recipe
from patchboard.vectors.dictionaries.choice import choices
from patchboard.vectors.dictionaries.named import summed
from patchboard.vectors.dictionaries.weights import some_features, whole_encoder
from patchboard.vectors.function import Project
from patchboard.vectors.make import Fits


def feature_operands(recipes: Mapping[str, Recipe], fits: Fits, project: Project) -> dict[str, Operand]:
    """Key -> operand of each recipe of a dictionary: its features, to be set to ``value`` times the largest activation
    of each; of a recipe of a vector the sum of their decoder's rows, each times that activation."""
    made: dict[str, Operand] = {}
    for dictionary in dict.fromkeys(recipe.dictionary for recipe in recipes.values()):  # one is held at a time
        assert dictionary is not None
        own = {key: recipe for key, recipe in recipes.items() if recipe.dictionary == dictionary}
        for key, choice in choices(own, fits).items():
            options, largest = dict(own[key].options), torch.tensor(choice.largest)
            some = some_features(dictionary, choice.numbers, largest * options["value"])
            made[key] = summed(some, largest) if options["summed"] else some
    return made


def with_whole_encoders(operands: Mapping[str, Operand], recipes: Mapping[str, Recipe]) -> dict[str, Operand]:
    """The operands of a run folder with what it has not of them: the whole encoders of top-k dictionaries, which are
    read from the dictionaries' own files."""
    for key, operand in operands.items():
        if isinstance(operand, FeatureTensors) and operand.k:
            dictionary = recipes[key].dictionary
            assert dictionary is not None
            operand.whole = whole_encoder(dictionary)
    return dict(operands)
