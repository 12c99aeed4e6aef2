"""Cells: every counterfactual that the spec asks for, and what each result row says about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from patchboard.ops import OPS
from patchboard.plan.edit_sites import EditSite, EditSites, edit_sites_of, summed_heads
from patchboard.plan.facts import ModelFacts
from patchboard.spec.axes import Point, Variant
from patchboard.spec.sections import ControlSection, EditSection, VectorSection
from patchboard.tasks.base import NULL
from patchboard.vectors.base import Place, Recipe

STATE = "@"
"""An operand that begins so is no vector: it is a state of another run in the same forward pass."""
OWN_STATE = STATE + "self"
"""Operand of the self control: the token's own state in the clean run."""
SAME = "same_task"
"""Source of states: the next query of the same task."""


@dataclass(frozen=True)
class Edit:
    """One edit at one block; ``operand`` names a recipe's key, OWN_STATE, or nothing."""

    op: str
    site: str
    layer: int
    position: str  # JSON text of the spec's position
    strength: float
    operand: str = ""
    head: int = -1  # at the head site


def source_of(edit: Edit) -> str:
    """The source in ``Group.donors`` whose states an edit puts in, "" for any other edit."""
    return edit.operand.removeprefix(STATE) if edit.operand.startswith(STATE) and edit.operand != OWN_STATE else ""


@dataclass(frozen=True)
class Cell:
    """One counterfactual of one task's prompts: edits, and the fields that its result rows carry."""

    intervention: str
    control: str
    vector_task: str
    edits: tuple[Edit, ...]
    layer: int
    """Where it stands on the axis of layers: its earliest edited block, or the last of ``layers: {upto: …}``."""
    swept: tuple[tuple[str, Any], ...]
    converts_to: str = ""
    """Another task whose answers this cell is scored against as well."""

    @property
    def row(self) -> dict[str, Any]:
        """The columns of store.schema.CELL that do not depend on the prompts."""
        layers = sorted({edit.layer for edit in self.edits})
        first = self.edits[0]
        return {
            "intervention": self.intervention,
            "control": self.control,
            "vector_task": self.vector_task,
            "op": _joined([e.op for e in self.edits]),
            "site": _joined([e.site for e in self.edits]),
            "layer": self.layer,
            "layers": ",".join(map(str, layers)),
            "head": first.head if len({e.head for e in self.edits}) == 1 else -1,
            "position": _joined([position_label(e.position) for e in self.edits]),
            "strength": first.strength,
        }


def _joined(values: list[str]) -> str:
    return "+".join(dict.fromkeys(values))


def position_label(position: str) -> str:
    value = json.loads(position)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Context:
    """What cells of one point and one task depend on, beside the spec."""

    task: str  # whose vectors are meant: the evaluated one, or a control's other one
    evaluated: str
    tasks: tuple[str, ...]  # of the family, Null last where included
    facts: ModelFacts
    fit_ids: dict[tuple[int, int], str]  # (shots, prompts) of a vector -> fit id at this point
    global_label: str  # "" or "@a=1,...": swept global fields that a vector depends on

    @property
    def real(self) -> tuple[str, ...]:
        return tuple(task for task in self.tasks if task != NULL)

    def partner(self) -> str:
        """The other task whose vector controls this one: the next in the family's order."""
        return self.real[(self.real.index(self.task) + 1) % len(self.real)]


_VECTOR_FIELDS = ("vector", "site", "position", "edits")


def vector_label(variant: Variant, context: Context) -> str:
    """The intervention's part of a vector's key: its name, and the swept values that change the vector."""
    prefix = f"interventions.{variant.name}."
    own = [
        f"{path.removeprefix(prefix)}={value}"
        for path, value in variant.swept.items()
        if path.removeprefix(prefix).split(".")[0].split("[")[0] in _VECTOR_FIELDS
    ]
    parts = ([context.global_label] if context.global_label else []) + own
    return variant.name + ("@" + ",".join(parts).replace("/", "|") if parts else "")


def resolve_source(source: str, context: Context) -> tuple[tuple[str, ...], str]:
    """Tasks that a source stands for, and how ``vector_task`` calls them."""
    if source == "same_task":
        return (context.task,), context.task
    if source == "other_task":
        return (context.partner(),), context.partner()
    if source == "null_task":
        return (NULL,), NULL
    if source == "all_tasks":
        return context.real, "ALL"
    return (source,), source


def _vector_task(vector: VectorSection, context: Context) -> str:
    if vector.subspace:
        return "tasks"
    names = [resolve_source(s, context)[1] for s in vector.sources]
    return names[0] if len(names) == 1 or vector.sources[0] == "same_task" else "-".join(names)


@dataclass(frozen=True)
class _Part:
    """One edit of the intervention at one block, with the recipe of its operand."""

    edit: Edit
    recipe: Recipe | None


def _part(section: EditSection, spot: EditSite, label: str, context: Context, where: str) -> _Part:
    position = json.dumps(section.position)
    layer, head = spot
    edit = Edit(section.op, section.site, layer, position, section.strength, head=head)
    vector = section.vector
    if vector is None:
        source = _donor_task(section, context)
        return _Part(replace(edit, operand=STATE + source) if source else edit, None)
    named = [resolve_source(source, context)[0] for source in vector.sources]
    labels, size = context.tasks, context.facts.head_dim
    recipe = Recipe(
        key=f"{label}/{_vector_task(vector, context)}/{layer}" + (f".{head}" if head >= 0 else ""),
        fit=context.fit_ids[vector.shots, vector.prompts],
        kind=vector.kind,  # type: ignore[arg-type]
        place=Place("head" if vector.function_vector else section.site, position),
        layer=layer,
        only=vector.only,
        plus=labels if vector.subspace else named[0],
        minus=named[1] if len(named) > 1 else (),
        rank=(vector.rank or len(labels) - 1) if vector.subspace else 0,
        method=vector.method,
        columns=(head * size, (head + 1) * size) if head >= 0 else None,
        heads=tuple((block, n * size, (n + 1) * size) for block, n in summed_heads(vector, context.facts, where)),
    )
    return _Part(replace(edit, operand=recipe.key), recipe)


def _donor_task(section: EditSection, context: Context) -> str:
    """Whose prompts an edit takes its states from: a task, SAME for other prompts of the same one, "" for none."""
    if OPS.get(section.op, "op").operand != "state":
        return ""
    named = resolve_source(section.source or "other_task", context)[1]
    return SAME if named == context.evaluated else named


def cells_of(
    point: Point, variant: Variant, controls: Sequence[ControlSection], context: Context
) -> Iterator[tuple[Cell, list[Recipe]]]:
    """Every cell of one variant for one task, its controls behind it, with the recipes that they need."""
    where = f"interventions.{variant.name}"
    swept = (*point.swept.items(), *variant.swept.items())
    sections = variant.section.parts
    base = vector_label(variant, context)
    for spots in edit_sites_of(variant, context.facts, where):

        def parts(context: Context, spots: EditSites = spots) -> list[_Part]:
            at = [where if variant.section.edits is None else f"{where}.edits[{i}]" for i in range(len(sections))]
            return [
                _part(section, spot, base + (f".{i}" if len(sections) > 1 else ""), context, at[i])
                for i, (section, own) in enumerate(zip(sections, spots.of_edits, strict=True))
                for spot in own
            ]

        def cell(
            made: list[_Part], control: str, vector_task: str, goal: str = "", layer: int = spots.layer
        ) -> tuple[Cell, list[Recipe]]:
            converts = goal if goal in context.real and goal != context.task else ""
            edits = tuple(part.edit for part in made)
            recipes = [part.recipe for part in made if part.recipe]
            return Cell(variant.name, control, vector_task, edits, layer, swept, converts), recipes

        own = parts(context)
        vectors = [s.vector for s in sections if s.vector]
        given = [_vector_task(s.vector, context) if s.vector else _donor_task(s, context) for s in sections]
        task_of = "+".join(dict.fromkeys(context.task if task == SAME else task for task in given if task))
        yield cell(own, "", task_of, goal=task_of)
        also_random = any(control.name == "random" for control in controls)
        for control in controls:
            yield from _control_cells(control, own, vectors, context, cell, parts, task_of, also_random)


def _control_cells(control: ControlSection, own, vectors, context, cell, parts, task_of, also_random):
    """The control's cells, none where it has no meaning for the intervention."""
    if control.name == "self":
        same = {replace(p.edit, op="patch", strength=1.0, operand=OWN_STATE): None for p in own}
        made = [_Part(edit, None) for edit in same]
        yield cell(made, "self", "")
    elif control.name == "other_task":
        if any("same_task" in v.sources for v in vectors) or any(p.edit.operand == STATE + SAME for p in own):
            made = parts(replace(context, task=context.partner()))
            yield cell(made, "other_task", context.partner(), goal=context.partner())
    elif control.name in ("random", "random_subspace"):
        kinds = {"subspace" if v.subspace else "vector" for v in vectors}
        if not kinds or (control.name == "random_subspace" and (kinds != {"subspace"} or also_random)):
            return  # `random` already stands for a subspace's counterpart
        named = "random_subspace" if kinds == {"subspace"} else "random"
        for draw in range(control.draws):
            yield cell([_randomised(p, draw) for p in own], named, f"{task_of}~random{draw}")


def _randomised(part: _Part, draw: int) -> _Part:
    if part.recipe is None:
        return part
    name, task, layer = part.recipe.key.rsplit("/", 2)
    recipe = replace(part.recipe, key=f"{name}/{task}~random{draw}/{layer}", draw=draw)
    return _Part(replace(part.edit, operand=recipe.key), recipe)


CONTROLS = ("self", "random", "other_task", "random_subspace")
