"""Which cells of a plan a screen estimates, and the plan of those that are then run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from patchboard.errors import SpecError
from patchboard.metrics.base import graded
from patchboard.plan.cells import Cell, source_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.packs import size_of
from patchboard.plan.suffix import first_block
from patchboard.spec.keep import FIRST
from patchboard.spec.sites import PATTERN
from patchboard.tasks.prompt import Prompt

Chosen = Mapping[str, Collection[int]]
"""Group's id -> places in ``Group.uses`` of its screened cells that are run."""


def screened_cells(group: Group) -> list[int]:
    """Places in ``group.uses`` of the cells that a screen estimates: an intervention's own, of one edit, which puts in
    a state of another prompt (attention weights are none). Of several edits the later ones change what the earlier ones
    do, and no sum of parts tells what is left."""
    return [number for number, use in enumerate(group.uses) if _is_screened(use.cell, group)]


def _is_screened(cell: Cell, group: Group) -> bool:
    of_sizes = any(path.endswith(f".{FIRST}") for path, _ in cell.swept)  # a set of heads, which may be left with one
    if cell.control or of_sizes or len(cell.edits) != 1:
        return False
    (edit,) = cell.edits
    # a pass with gradients reads no weights of patterns, and is handed no subspaces
    return source_of(edit) in group.donors and edit.site != PATTERN and not edit.subspace


def reduced_plan(plan: ModelPlan, chosen: Chosen) -> ModelPlan:
    """The plan without the screened cells that are not chosen, their controls and what only these need."""
    return replace(plan, groups=tuple(reduced_group(group, chosen[group.id]) for group in plan.groups))


def reduced_group(group: Group, chosen: Collection[int]) -> Group:
    """The group itself where all of its cells are left. chosen: places of screened cells in ``group.uses``."""
    left, screened = set(chosen), set(screened_cells(group))
    kept, runs = [], True
    for number, use in enumerate(group.uses):
        if not use.cell.control:  # its controls stand behind it
            runs = number not in screened or number in left
        if runs:
            kept.append(use)
    needed = {0, group.noise_copy}
    for use in kept:
        needed.update(use.copies.values())
    first = {replace(copy, answer=0) for number, copy in enumerate(group.copies) if number in needed}
    old = [number for number, copy in enumerate(group.copies) if replace(copy, answer=0) in first]
    new = {number: place for place, number in enumerate(old)} | {-1: -1}
    uses = tuple(replace(use, **{name: new[copy] for name, copy in use.copies.items()}) for use in kept)
    copies = tuple(group.copies[number] for number in old)
    return replace(group, uses=uses, copies=copies, noise_copy=new[group.noise_copy])


def largest_plan(plan: ModelPlan) -> ModelPlan:
    """As ``reduced_plan``, as if those were chosen whose copies take most work: before the estimates are known."""
    if plan.screen is None:
        return plan
    count = plan.screen.keep + plan.screen.sample
    return reduced_plan(plan, {group.id: _most_work(group, plan.facts, count) for group in plan.groups})


def _most_work(group: Group, facts: ModelFacts, count: int) -> list[int]:
    lengths = size_of(group).copies

    def work(number: int) -> int:
        copy = group.uses[number].patched
        return lengths[copy] * (facts.layers - first_block(group.copies[copy]))

    return sorted(screened_cells(group), key=work, reverse=True)[:count]


def check_screen(plan: ModelPlan) -> None:
    """Raises SpecError where there is nothing to screen, or nothing to go by."""
    if plan.screen is None:
        return
    screened = {group.id: screened_cells(group) for group in plan.groups}
    if not any(screened.values()):
        what = "finds no intervention of one edit that puts in a state of another prompt"
        raise SpecError("screen", what, "add source: to an intervention, or leave screen out")
    if plan.screen.method == "integrated_gradients":
        for group in plan.groups:
            for source in {source_of(group.uses[n].cell.edits[0]): None for n in screened[group.id]}:
                _check_lengths(group, source)


def check_screen_metric(metrics: Sequence[str]) -> None:
    """Raises SpecError where none of the spec's metrics has a gradient."""
    if not graded(metrics):
        what = f"goes by the gradient of a metric, and none of {', '.join(metrics)} has one"
        raise SpecError("screen", what, "add logit_difference, logprob or probability to metrics")


def _check_lengths(group: Group, source: str) -> None:
    for query, (prompt, donor) in enumerate(zip(group.prompts, group.donors[source], strict=True)):
        if usable(prompt, donor) and len(prompt.token_ids) != len(donor.token_ids):
            what = (
                "integrated_gradients goes from each prompt's embeddings to those of its source, and query"
                f" {query} of {group.task} has {len(prompt.token_ids)} tokens, its source {source}"
                f" {len(donor.token_ids)}"
            )
            raise SpecError("screen.method", what, "write method: attribution")


def usable(prompt: Prompt, donor: Prompt) -> bool:
    """Whether the one can be given the other's states."""
    return not prompt.excluded and not donor.excluded
