"""random and random_subspace: the edit in a direction that means nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from patchboard.errors import SpecError
from patchboard.ops import fitted_part
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.plan.feature_edits import count_of
from patchboard.plan.planned_edits import PlannedEdit, with_operand
from patchboard.spec.section import Count, Section
from patchboard.vectors.base import Recipe


class Draws(Section):
    """How many independent draws there are."""

    draws: Count = 1


@CONTROLS.register("random")
class Random(Control):
    """the same edit with random directions: of a vector's norm, of a subspace's rank and centre; of features of a
    dictionary with other features of it, each one of the ten that are active in the most similar share of the fit
    prompts. `draws` independent ones. For a subspace it is reported as `random_subspace`."""

    phrase = "random vectors of the same norm"
    line = LineStyle("#009E73", "-.", "s")
    Options = Draws

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        assert isinstance(options, Draws)
        kinds = _operands(placed)
        if not kinds:
            return
        name = "random_subspace" if kinds == {"subspace"} else "random"
        for draw in range(options.draws):
            edits = tuple(_randomised(own, draw) for own in placed.edits)
            # what a random subspace of a source's state converts is what a fitted one must be held against
            scored_as = placed.vector_task if any(own.edit.subspace for own in placed.edits) else ""
            yield ControlCell(name, f"{placed.vector_task}~random{draw}", edits, scored_as)


@CONTROLS.register("random_subspace")
class RandomSubspace(Random):
    """as `random`, for interventions on subspaces only. Give one of the two."""

    phrase = "random subspaces of the same rank"
    line = LineStyle("#7CC4F2", "-.", "D")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        # `random` already stands for a subspace's counterpart
        if "random" not in placed.controls and _operands(placed) <= {"subspace"}:
            yield from super().cells(placed, options)


def _operands(placed: PlacedIntervention) -> set[str]:
    """Whether its edits have vectors, subspaces, features or several of these: a vector's kind is what the op takes."""
    edits = [edit for edit in placed.variant.section.parts if edit.vector]
    return {"features" if edit.vector and edit.vector.sae else fitted_part(edit.op) for edit in edits}


def _randomised(planned: PlannedEdit, draw: int) -> PlannedEdit:
    if planned.recipe is None:
        return planned
    if draw not in planned.counterparts:
        planned.counterparts[draw] = _counterpart(planned, planned.recipe, draw)
    return planned.counterparts[draw]


def _counterpart(planned: PlannedEdit, of: Recipe, draw: int) -> PlannedEdit:
    _check_others(of)
    name, task, layer = of.key.rsplit("/", 2)
    recipe = replace(of, key=f"{name}/{task}~random{draw}/{layer}", draw=draw, counterpart_of=of.key)
    return PlannedEdit(with_operand(planned.edit, recipe.key), recipe)


def _check_others(recipe: Recipe) -> None:
    """Raises SpecError where a dictionary has too few other features to draw from."""
    if recipe.dictionary is None:
        return
    wanted, size = count_of(recipe), recipe.dictionary.size
    if 2 * wanted > size:
        what = f"random needs {wanted} other features, '{recipe.dictionary.file}' has {size - wanted}"
        raise SpecError("controls", what, "use fewer features, or leave random out")
