"""self: a state in its own place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from patchboard.plan.cells import OWN_STATE
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.spec.section import Section


@CONTROLS.register("self")
class SelfPatch(Control):
    """each edited state replaced by itself, as it was in the clean run. Nothing may change: what does is the
    noise floor. Not for `knock_out`, which edits no state."""

    phrase = "a prompt's own state in its place (nothing may change)"
    line = LineStyle("#CC79A7", ":", "x")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        of_states = (own.edit for own in placed.edits if not own.edit.origin)
        same = {replace(edit, op="patch", strength=1.0, operand=OWN_STATE, read=None): None for edit in of_states}
        if same:
            yield ControlCell("self", "", tuple(PlannedEdit(edit, None) for edit in same))
