"""Whose state an edit takes in place of a vector, and where in that run it is read."""

from __future__ import annotations

import json
from dataclasses import replace

from patchboard.errors import SpecError
from patchboard.ops import OPS
from patchboard.plan.cells import CLEAN, OWN, SAME, STATE, Edit, StateRead
from patchboard.plan.context import Context, resolve_source
from patchboard.spec.edits import EditSection
from patchboard.spec.positions import ENDS
from patchboard.spec.sites import HEADED, NEURAL


def donor_of(section: EditSection, context: Context) -> str:
    """Whose prompts an edit takes its states from: a task, a source of the family's rows, SAME for other prompts of the
    same task, OWN for the prompt itself, "" for none."""
    if section.source is None and OPS.get(section.op, "op").operand != "state":
        return ""
    name = section.source.name if section.source else "other_task"
    if name == CLEAN:
        return OWN
    named = resolve_source(name, context)[1]
    return SAME if named == context.evaluated else named


def reading(edit: Edit, section: EditSection, donor: str, context: Context, where: str) -> Edit:
    """The edit with the donor's state as its operand, read where the section says.

    Raises SpecError for a state of another width.
    """
    edit, source, facts = replace(edit, operand=STATE + donor), section.source, context.facts
    if source is None:
        return edit
    layer, site = edit.layer if source.layer is None else source.layer, source.site or edit.site
    if layer >= facts.layers:
        raise SpecError(
            f"{where}.source.layer", f"found {layer}, the model has {facts.layers} layers", "use a lower one"
        )
    if site not in facts.sites:
        what = f"there is no site '{site}' in family '{facts.family}'"
        raise SpecError(f"{where}.source.site", what, f"choose one of {', '.join(facts.sites)}")
    inside = (*HEADED, *NEURAL)
    if site != edit.site and (site in inside or edit.site in inside):
        what = f"{site} and {edit.site} hold different parts of a block, no state of one fits the other"
        raise SpecError(f"{where}.source.site", what, "leave it out, or read the stream or what is added to it")
    position = edit.position if source.position is None else json.dumps(source.position)
    if source.align in ENDS:
        edit, position = replace(edit, position=_at_end(edit.position, source.align)), _at_end(position, source.align)
    read = StateRead(layer, site, position, source.align == "all")
    own = StateRead(edit.layer, edit.site, edit.position)
    return edit if read == own else replace(edit, read=read)


def _at_end(position: str, end: str) -> str:
    """The first or last token of each place that a position (JSON text) names."""
    value = json.loads(position)
    names = value if isinstance(value, list) else [value]
    ends = [f"{name}.{end}" if isinstance(name, str) and "." not in name else name for name in names]
    return json.dumps(ends if isinstance(value, list) else ends[0])
