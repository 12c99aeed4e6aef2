"""self: a state in its own place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.spec.section import Section


@CONTROLS.register("self")
class SelfPatch(Control):
    """each edited state replaced by itself, as it was in the clean run. Nothing may change: what does is the
    noise floor. Not for `knock_out`, which edits no state."""

    phrase = "a prompt's own state in its place (nothing may change)"
    line = LineStyle("#D285B1", ":", "x")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        same = {_own_state(own.edit): None for own in placed.edits if not own.edit.origin}
        if same:
            yield ControlCell("self", "", tuple(PlannedEdit(edit, None) for edit in same))


@lru_cache(maxsize=1024)  # cells share edits
def _own_state(edit: Edit) -> Edit:
    """The edit, putting back what the clean run has there; of path patching the sender does."""
    if edit.lender:
        senders = tuple(map(_own_state, edit.lender.senders))
        return replace(edit, lender=replace(edit.lender, senders=senders))
    return replace(edit, op="patch", strength=1.0, operand=OWN_STATE, read=None, seed=-1, subspace="")
