"""other_task: the edit with what belongs to another task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from patchboard.errors import SpecError
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.spec.axes import Variant
from patchboard.spec.section import Section
from patchboard.tasks.base import NULL


@CONTROLS.register("other_task")
class OtherTask(Control):
    """the edit with another task's vector, or `resample`'s state, the next task in the family's order.
    Only for vectors and sources of `same_task`. It is also scored against the other task's answers (conversion)."""

    phrase = "another task's vector or state"
    line = LineStyle("#CC5200", "-", "^")

    @classmethod
    def check(cls, variants: Sequence[Variant], tasks: Sequence[str], where: str) -> None:
        if len([task for task in tasks if task != NULL]) < 2:
            what = "other_task needs two tasks, the family gives one"
            raise SpecError("controls", what, "add tasks or leave it out")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        if placed.is_of_same_task:
            partner = placed.context.partner()
            edits = placed.edits_in(replace(placed.context, task=partner))
            yield ControlCell("other_task", partner, edits, scored_as=partner)
