"""random and random_subspace: the edit in a direction that means nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from patchboard.ops import fitted_part
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.plan.planned_edits import PlannedEdit, with_operand
from patchboard.spec.section import Count, Section


class Draws(Section):
    """How many independent draws there are."""

    draws: Count = 1


@CONTROLS.register("random")
class Random(Control):
    """the same edit with random directions: of a vector's norm, of a subspace's rank and centre. `draws`
    independent ones. For a subspace it is reported as `random_subspace`."""

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
    line = LineStyle("#56B4E9", "-.", "D")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        # `random` already stands for a subspace's counterpart
        if "random" not in placed.controls and _operands(placed) <= {"subspace"}:
            yield from super().cells(placed, options)


def _operands(placed: PlacedIntervention) -> set[str]:
    """Whether its edits have vectors, subspaces or both: a vector's kind is what the op takes."""
    return {fitted_part(edit.op) for edit in placed.variant.section.parts if edit.vector}


def _randomised(planned: PlannedEdit, draw: int) -> PlannedEdit:
    if planned.recipe is None:
        return planned
    name, task, layer = planned.recipe.key.rsplit("/", 2)
    recipe = replace(planned.recipe, key=f"{name}/{task}~random{draw}/{layer}", draw=draw)
    return PlannedEdit(with_operand(planned.edit, recipe.key), recipe)
