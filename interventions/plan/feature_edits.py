"""Edits of features of a dictionary in a plan: which dictionary, and at which tokens it is read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from patchboard.errors import SpecError
from patchboard.ops import OPS
from patchboard.plan.cells import position_label
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Fit
from patchboard.plan.suffix import positions_of
from patchboard.spec.edits import EditSection
from patchboard.spec.sections import ModelSection
from patchboard.vectors.base import Recipe


def feature_fields(edit: EditSection, layer: int, model: ModelSection, facts: ModelFacts, where: str) -> dict[str, Any]:
    """Fields of the recipe of one edit, at one block, that only a dictionary's have. where: of the edit.

    Raises SpecError where the dictionary is none of this place, or writes no one vector and the op adds one.
    """
    from patchboard.vectors.dictionaries.dictionary import dictionary_at
    from patchboard.vectors.files.given import Use

    vector, wants = edit.vector, OPS.get(edit.op, "op").operand
    assert vector is not None
    use = Use(model, layer, -1, edit.site, json.dumps(edit.position), facts.width_at(edit.site), 0, "", wants)
    found = dictionary_at(vector, use, facts.family, f"{where}.vector")
    if wants == "vector" and found.config.norm != "none":
        what = f"'{found.file}' scales what its features write by each state ({found.config.norm})"
        raise SpecError(f"{where}.op", f"{what}, so they are no vector", "write op: clamp_features")
    chosen: dict[str, Any] = {"features": tuple(vector.features or ())}
    if vector.select:
        chosen = {"top": vector.top, "by": vector.by or "size"}
    value = 1.0 if vector.value is None else vector.value
    options = {**chosen, "value": value, "summed": wants == "vector"}
    return {"dictionary": found, "options": tuple(options.items())}


def check_single_tokens(fit: Fit, recipes: Iterable[Recipe]) -> None:
    """Raises SpecError where features would be read from the mean of several tokens' states, which is no state."""
    places = dict.fromkeys(recipe.place for recipe in recipes if recipe.dictionary is not None)
    for place in places:
        for task, prompts in fit.prompts.items():
            for prompt in prompts:
                end = len(prompt.token_ids) + len(prompt.answer_ids) - 1
                if not prompt.excluded and len(positions_of(prompt, place.position, end)) > 1:
                    what = f"position {position_label(place.position)} names several tokens in fit prompts of {task}"
                    remedy = "write fitted_at: {position: last} beside sae"
                    raise SpecError("interventions", f"{what}, and features are of the state of one", remedy)


def count_of(recipe: Recipe) -> int:
    """How many features a recipe of a dictionary is of."""
    options = dict(recipe.options)
    return options.get("top") or len(options["features"])
