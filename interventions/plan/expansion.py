"""Every counterfactual that the spec asks for: interventions at each of their places, their controls behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from patchboard.plan.cells import Cell, Edit, source_of, with_lent
from patchboard.plan.context import Context
from patchboard.plan.controls import CONTROLS, ControlCell, PlacedIntervention, options_of
from patchboard.plan.edit_sites import EditSites, components_of, edit_sites_of
from patchboard.plan.path_patching import is_behind_receivers
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.spec.axes import Point, Variant
from patchboard.spec.controls import ControlSection
from patchboard.spec.keep import FIRST


def cells_of(
    point: Point, variant: Variant, controls: Sequence[ControlSection], context: Context
) -> Iterator[tuple[Cell, list[PlannedEdit]]]:
    """Every cell of one variant for one task, its controls behind it, with the edits that have recipes."""
    swept = tuple(_swept(point, variant, context))
    names = tuple(control.name for control in controls)
    made = []
    for sites in edit_sites_of(variant, context.facts):
        if is_behind_receivers(variant.section, sites, context.facts, variant.where):
            continue
        placed = PlacedIntervention(variant, sites, context, names, made)
        cells = [ControlCell("", placed.vector_task, placed.edits, scored_as=placed.vector_task)]
        for i, section in enumerate(controls):
            at = f"controls[{i}]"
            cells += CONTROLS.get(section.name, at).cells(placed, options_of(section, at))
        for cell in cells:
            edits = tuple(planned.edit for planned in cell.edits)
            form = () if edits else _of_all_heads(placed)
            fitted = [planned for planned in cell.edits if planned.recipe]
            row = Cell(
                variant.name, cell.control, cell.vector_task, edits, sites.layer, swept, texts=cell.texts, form=form
            )
            own = [planned.edit for planned in placed.edits]
            source = _source(edits) if any(map(source_of, with_lent(edits))) else _source(form or own)
            yield replace(row, converts_to=_converts_to(cell, edits, context), source=source), fitted


def _swept(point: Point, variant: Variant, context: Context) -> Iterator[tuple[str, Any]]:
    """The swept fields and their values; of kept heads their number, also where that is all of them."""
    where = variant.where
    for path, value in (*point.swept.items(), *variant.swept.items()):
        every = path == f"{where}.{FIRST}" and value == "all"
        yield path, len(components_of(variant.section.parts[0], context.facts, where)) if every else value


def _of_all_heads(placed: PlacedIntervention) -> tuple[Edit, ...]:
    """The edits of an intervention that keeps no head."""
    ((where, section),) = placed.variant.located_edits
    heads = list(components_of(section, placed.context.facts, where))
    return tuple(planned.edit for planned in replace(placed, sites=EditSites([heads], placed.sites.layer)).edits)


def _source(edits: Sequence[Edit]) -> str:
    """The source of the states that the edits put in; none where there are several."""
    sources = {source_of(edit) for edit in with_lent(edits)} - {""}
    return sources.pop() if len(sources) == 1 else ""


def _converts_to(cell: ControlCell, edits: Sequence[Edit], context: Context) -> str:
    """Whose answers it is scored against too: another task's, or those of the one source of rows that gives states."""
    if cell.scored_as in context.tasks:
        return cell.scored_as if cell.scored_as in context.real and cell.scored_as != context.task else ""
    return cell.scored_as if _source(edits) == cell.scored_as else ""
