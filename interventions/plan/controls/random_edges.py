"""random_edges: as many edges of attention, from other tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from patchboard.errors import SpecError
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.plan.controls.random import Draws
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.spec.axes import Variant
from patchboard.spec.section import Section


@CONTROLS.register("random_edges")
class RandomEdges(Control):
    """of `knock_out`: each `to` token loses as many edges, from random other earlier tokens (never the first one of the
    sequence, on which much attention rests). `draws` independent ones, each the same in prompts of one shape; prompts
    in which some token has too few others are excluded."""

    phrase = "as many edges from random other tokens cut"
    overlap = "it may be of cutting any tokens off"
    line = LineStyle("#000000", "-.", "X")
    Options = Draws

    @classmethod
    def check(cls, variants: Sequence[Variant], tasks: Sequence[str], where: str) -> None:
        if variants and not any(part.edges for variant in variants for part in variant.section.parts):
            raise SpecError(where, "random_edges needs an intervention that cuts edges, there is none", "leave it out")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        assert isinstance(options, Draws)
        for draw in range(options.draws if any(own.edit.origin for own in placed.edits) else 0):
            edits = tuple(_drawn(own, draw) for own in placed.edits)
            yield ControlCell("random_edges", f"{placed.vector_task}~random{draw}", edits)


def _drawn(planned: PlannedEdit, draw: int) -> PlannedEdit:
    return replace(planned, edit=replace(planned.edit, draw=draw)) if planned.edit.origin else planned
