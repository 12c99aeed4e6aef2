"""An edit of the spec at one block of one model, for one task, with the recipe of the vector that it uses."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field, replace

from patchboard.errors import SpecError
from patchboard.ops import OPS, fitted_part
from patchboard.plan.cells import ATTENTION, STATE, Edit
from patchboard.plan.context import Context, resolve_source, vector_task
from patchboard.plan.edit_sites import EditSite, cut_heads_of, neurons_of, summed_heads
from patchboard.plan.feature_edits import feature_fields
from patchboard.plan.learning import taught_edit
from patchboard.plan.state_reads import donor_of, reading
from patchboard.spec.edits import EditSection
from patchboard.spec.sites import PATTERN
from patchboard.spec.vectors import VectorSection
from patchboard.tasks.contrast import SIDES
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.fitters import FITTERS


@dataclass(frozen=True)
class PlannedEdit:
    """One edit of the intervention at one block, with the recipe of its operand. Cells of one intervention share it."""

    edit: Edit
    recipe: Recipe | None
    taught: Edit | None = None
    """Of a vector that is learned: the edit by which it is put in meanwhile."""
    where: str = ""
    """The section's path in the spec, for refusals."""
    counterparts: dict[int, PlannedEdit] = field(default_factory=dict, compare=False, repr=False)
    """Draw -> the same in a random direction, once made: cells share them too."""


def planned_edit(section: EditSection, site: EditSite, label: str, context: Context, where: str) -> PlannedEdit:
    """label: the intervention's part of its vectors' keys. where: of the section, for refusals."""
    position = json.dumps(section.position)
    layer, head = site
    if section.edges is not None:
        origin, position = map(json.dumps, section.edges.ends)
        heads = cut_heads_of(section, context.facts, where)
        return PlannedEdit(Edit(section.op, ATTENTION, layer, position, 1.0, origin=origin, heads=heads), None)
    neurons = neurons_of(section, context.facts, where)
    edit = Edit(section.op, section.site, layer, position, section.strength, head=head, neurons=neurons)
    if edit.site == PATTERN:
        edit = replace(edit, keys=context.facts.head_dim)
    if OPS.get(section.op, "op").operand == "noise":
        edit = replace(edit, seed=_noise_seed(edit, section.draw, context))
    vector = section.vector
    source = donor_of(section, context)
    edit = reading(edit, section, source, context, where) if source else edit
    if vector is None:
        return PlannedEdit(edit, None)
    if vector.file is not None:
        return _from_file(edit, position, vector, label, context, where)
    fitter = FITTERS.get(vector.kind, f"{where}.vector")
    of_features = feature_fields(section, layer, context.model, context.facts, where) if vector.sae is not None else {}
    named = [resolve_source(source, context)[0] for source in vector.sources] or [context.tasks]
    if vector.contrast is not None:
        named = [(side,) for side in SIDES]
    if vector.fitted_at is not None and vector.fitted_at.position is not None:
        position = json.dumps(vector.fitted_at.position)
    labels, size = context.tasks, context.facts.head_dim
    of_task = vector_task(vector, context) + (f"~{context.answers}" if context.answers != "own" else "")
    recipe = Recipe(
        key=f"{label}/{of_task}/{layer}" + (f".{head}" if head >= 0 else ""),
        fit=context.fit_of(vector),
        kind=vector.kind,
        place=Place("head" if fitter.reads_heads else section.site, position),
        layer=layer,
        only="all" if vector.contrast or vector.is_learned else vector.only,
        plus=named[0],
        minus=named[1] if len(named) > 1 else (),
        rank=_rank(vector, len(labels)),
        method=vector.method,
        needs_states=fitter.needs_states(vector),
        **{"options": (*vector.options.items(), *_paired_with(vector, context)), **of_features},
        columns=(head * size, (head + 1) * size) if head >= 0 else None,
        neurons=() if vector.is_learned else neurons,
        heads=tuple((block, n * size, (n + 1) * size) for block, n in summed_heads(vector, context.facts, where)),
    )
    taught = _taught(edit, recipe, vector, context, where) if vector.is_learned else None
    return PlannedEdit(with_operand(edit, recipe.key), recipe, taught, where)


def _taught(edit: Edit, recipe: Recipe, vector: VectorSection, context: Context, where: str) -> Edit:
    """The edit by which a vector is learned. Raises SpecError for more dimensions than states have."""
    width = context.facts.head_dim if edit.head >= 0 else context.facts.width_at(edit.site)
    if recipe.rank > width:
        what = f"{recipe.rank} dimensions of states of {width} at {edit.site}"
        raise SpecError(f"{where}.vector.rank", what, f"use at most {width}")
    return taught_edit(edit, recipe, _pairs_with(vector, context) if vector.das else "")


def _paired_with(vector: VectorSection, context: Context) -> tuple[tuple[str, str], ...]:
    """Of a das vector whose prompts its pairs are with, as an option of its recipe."""
    return (("source", _pairs_with(vector, context)),) if vector.das else ()


def _pairs_with(vector: VectorSection, context: Context) -> str:
    """Whose prompts a das vector's pairs are with: a task, or a source of the rows."""
    assert vector.das is not None
    return resolve_source(vector.das, context)[1]


def with_operand(edit: Edit, key: str) -> Edit:
    """The edit with the operand of that key: beside a state, the subspace in which the state is put in."""
    return replace(edit, subspace=key) if edit.operand.startswith(STATE) else replace(edit, operand=key)


def _rank(vector: VectorSection, labels: int) -> int:
    """Dimensions of a subspace, 0 of a vector."""
    return vector.rank or (labels - 1 if vector.subspace else 1 if vector.pca or vector.das else 0)


def _from_file(
    edit: Edit, position: str, vector: VectorSection, label: str, context: Context, where: str
) -> PlannedEdit:
    """The edit with a file's vector, which is read here. position: the spec's, of which ``align`` may leave the edit
    one token. Raises SpecError where it is none of this place."""
    from patchboard.vectors.files.given import Use, given

    task, wants = vector_task(vector, context), fitted_part(edit.op)
    width, several = context.facts.width_at(edit.site), len(edit.neurons)
    use = Use(
        context.model, edit.layer, edit.head, edit.site, position, width, several,
        context.task, wants,
    )  # fmt: skip
    found = given(vector, use, f"{where}.vector")
    cut = several and found.tensors[0].shape[-1] != several
    recipe = Recipe(
        key=f"{label}/{task}/{edit.layer}" + (f".{edit.head}" if edit.head >= 0 else ""),
        fit="",
        kind=vector.kind,
        place=Place(edit.site, position),
        layer=edit.layer,
        only="all",
        plus=(context.task,) if vector.sources else (),
        rank=found.tensors[0].shape[0] if wants == "subspace" else 0,
        neurons=edit.neurons if cut else (),
        given=found,
    )
    return PlannedEdit(with_operand(edit, recipe.key), recipe)


def _noise_seed(edit: Edit, draw: int, context: Context) -> int:
    """32 bits by all that decides the noise of an edit, but for the query and the token: not by the intervention, so
    that those that corrupt one place can be compared."""
    told = (context.seed, context.evaluated, edit.layer, edit.site, edit.head, draw)
    return zlib.crc32("/".join(map(str, told)).encode())
