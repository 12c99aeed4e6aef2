"""Prompts, cells and fits as plain data that a script can hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from patchboard.emit.literal import Code
from patchboard.emit.select import Chosen, ChosenGroup
from patchboard.engine.families import ARCHITECTURES
from patchboard.engine.parts import slots_of
from patchboard.engine.sites import place_of
from patchboard.ops import OPS
from patchboard.plan.cells import OWN_STATE, STATE, Cell, Edit, position_label, source_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Fit, ModelPlan
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.spec.axes import label
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.base import Recipe

Plain = dict[str, Any]


def sequence(prompt: Prompt, answer: Sequence[int], positions: Iterable[str]) -> Plain:
    """A prompt, an answer that is forced, and the tokens of each position in both."""
    length = len(prompt.token_ids) + len(answer) - 1
    at = {position_label(position): list(positions_of(prompt, position, length)) for position in positions}
    return {"ids": list(prompt.token_ids), "answer": list(answer), "at": at}


def queries_of(chosen: ChosenGroup) -> list[Plain]:
    """The chosen queries: their sequence, and what their cells need of other answers and other prompts."""
    group = chosen.group
    edits = [edit for use in chosen.uses for edit in use.cell.edits]
    own_reads = (edit.read.position for edit in edits if edit.read and not source_of(edit))
    positions = dict.fromkeys([*(edit.position for edit in edits), *own_reads])
    goals = dict.fromkeys(use.cell.converts_to for use in chosen.uses if use.cell.converts_to)
    sources = dict.fromkeys(source for source in map(source_of, edits) if source)
    queries = []
    for i in chosen.queries:
        prompt = group.prompts[i]
        query: Plain = {"query": i, "text": prompt.text, **sequence(prompt, prompt.answer_ids, positions)}
        query["foil"] = group.foils[i]
        others = {goal: next(iter(prompt.right(goal)), None) for goal in goals}
        if goals:
            query["as"] = {
                goal: {key: value for key, value in sequence(prompt, ids, positions).items() if key != "ids"}
                for goal, ids in others.items()
                if ids not in (None, prompt.answer_ids)
            }
        if sources:
            query["donors"] = {
                source: _donor(group.donors[source][i], [_read_at(e) for e in edits if source_of(e) == source])
                for source in sources
            }
        queries.append(query)
    return queries


def _read_at(edit: Edit) -> str:
    return edit.read.position if edit.read else edit.position


def _donor(prompt: Prompt, positions: Sequence[str]) -> Plain:
    assert len(clean_tokens(prompt)) == len(prompt.token_ids) + len(prompt.answer_ids) - 1
    return sequence(prompt, prompt.answer_ids, dict.fromkeys(positions))


def cell_of(cell: Cell, task: str, ops: Mapping[str, str], plan: ModelPlan) -> Plain:
    """ops: name of an op -> that of its function in the script."""
    entry: Plain = {"name": name_of(cell, task), "task": task}
    if cell.converts_to:
        entry["converts_to"] = cell.converts_to
    in_order = sorted(cell.edits, key=lambda edit: place_of(edit.layer, edit.site))  # stable: edits of a place compose
    return {**entry, "edits": [_edit(edit, ops, plan) for edit in in_order]}


def name_of(cell: Cell, task: str) -> str:
    """What tells the cell from all others of the run."""
    row = cell.row
    parts = [cell.intervention + (f" ({cell.control})" if cell.control else ""), f"on {task}"]
    parts += [f"vector {cell.vector_task}"] * bool(cell.vector_task and cell.vector_task != task)
    parts += [f"layer{'s' * (',' in row['layers'])} {row['layers']}"]
    parts += [f"head {row['head']}"] * (row["head"] >= 0)
    parts += [f"{path}={label(value)}" for path, value in cell.swept]
    return ", ".join(parts)


def _edit(edit: Edit, ops: Mapping[str, str], plan: ModelPlan) -> Plain:
    entry: Plain = {"op": Code(ops[edit.op]), "layer": edit.layer, "site": edit.site}
    if edit.head >= 0:
        entry["columns"] = columns_of(plan.facts)(edit.site, edit.head)
    if edit.neurons:
        entry["neurons"] = list(edit.neurons)
    entry |= {"position": position_label(edit.position), "strength": edit.strength}
    if edit.operand.startswith(STATE):
        entry["states_of"] = "self" if edit.operand == OWN_STATE else source_of(edit)
        if edit.read:
            entry["read"] = (edit.read.layer, edit.read.site, position_label(edit.read.position), edit.read.filled)
    elif edit.operand:
        entry[OPS.get(edit.op, "op").operand] = edit.operand
    return entry


Columns = Callable[[str, int], tuple[int, int]]
"""(site, head) -> the head's part of what the site's module gives (or is given), from and to."""


def columns_of(facts: ModelFacts) -> Columns:
    """Where the heads of each site lie in the family's modules."""
    slots = slots_of(ARCHITECTURES[facts.family], facts.heads, facts.kv_heads)

    def columns(site: str, head: int) -> tuple[int, int]:
        slot = slots[site][head]
        return slot * facts.head_dim, (slot + 1) * facts.head_dim

    return columns


def recipes_of(chosen: Chosen) -> dict[str, Recipe]:
    """Key -> recipe of every operand that the cells use."""
    keys = (edit.operand for use in chosen.uses for edit in use.cell.edits)
    return {key: chosen.plan.recipes[key] for key in keys if key in chosen.plan.recipes}


def places_of(recipes: Iterable[Recipe]) -> list[tuple[int, str, str]]:
    """(layer, site, position) at which states are read for the recipes, in the order of a forward pass."""
    places = {(block, r.place.site, position_label(r.place.position)) for r in recipes for block in r.blocks}
    return sorted(places, key=lambda place: (place_of(place[0], place[1]), place[2]))


def fit_of(fit: Fit, recipes: Sequence[Recipe]) -> dict[str, list[Plain]]:
    """Task -> the fit's usable prompts of the tasks that the recipes ask for."""
    tasks = {task for recipe in recipes for task in (*recipe.plus, *recipe.minus)}
    positions = dict.fromkeys(recipe.place.position for recipe in recipes)
    return {
        task: [sequence(p, p.answer_ids, positions) for p in prompts if not p.excluded]
        for task, prompts in fit.prompts.items()
        if task in tasks
    }
