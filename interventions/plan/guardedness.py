"""Which cells erase something, and the prompts on whose states fresh probes are then fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from patchboard.errors import SpecError
from patchboard.ops import OPS
from patchboard.plan.context import Context
from patchboard.plan.controls import CONTROLS
from patchboard.plan.controls.random import Random
from patchboard.plan.expansion import cells_of
from patchboard.plan.model import Counterfactual, Fit, Group, GuardedCell, Guarding
from patchboard.plan.prompt_source import PromptSource
from patchboard.plan.queries import check_folds
from patchboard.plan.suffix import shape_of, suffix_of
from patchboard.spec.axes import Point, Variant
from patchboard.spec.guardedness import GuardednessSection
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.base import Recipe


def erases(variant: Variant) -> bool:
    """Whether all of its edits are of ops that take something out of a state."""
    return all(getattr(OPS.get(part.op, "op"), "erases", False) for part in variant.section.parts)


@dataclass(frozen=True)
class ErasingCell:
    """A cell with its edits of each label's prompts, and the recipe of the first. Null is among the labels where all
    tasks' prompts are edited alike."""

    cell: GuardedCell
    recipe: Recipe


def erasing_cells(
    point: Point, variant: Variant, contexts: Mapping[str, Context], swept: Sequence[tuple[str, Any]]
) -> Iterator[ErasingCell]:
    """The variant's own cells and those with random subspaces. contexts: of the real tasks. swept: what of the settings
    bears on the prompts."""
    drawn = [c for c in point.spec.controls if issubclass(CONTROLS.get(c.name, "controls"), Random)]
    of_tasks = [list(cells_of(point, variant, drawn, context)) for context in contexts.values()]
    labels = next(iter(contexts.values())).tasks
    for same in zip(*of_tasks, strict=True):
        (first, fitted), edits = same[0], {cell.edits for cell, _ in same}
        if not first.edits:  # all heads are kept
            continue
        if len(edits) == 1:
            edited = {label: first.edits for label in labels}
        else:
            edited = {task: cell.edits for task, (cell, _) in zip(contexts, same, strict=True)}
            first = replace(first, vector_task="same_task" + "".join(first.vector_task.partition("~")[1:]))
        recipe = fitted[0].recipe
        assert recipe is not None
        yield ErasingCell(GuardedCell(replace(first, swept=(*swept, *variant.swept.items())), edited), recipe)


class Guardings:
    """Collects the sets of prompts of all points, and the cells that are asked of each."""

    def __init__(self) -> None:
        self._sets: dict[str, Guarding] = {}

    def all(self) -> tuple[Guarding, ...]:
        return tuple(self._sets.values())

    def add(
        self, point: Point, source: PromptSource, prompts_key: str, contexts: Mapping[str, Context],
        fits: Mapping[str, Fit], swept: Sequence[tuple[str, Any]],
    ) -> Iterator[str]:  # fmt: skip
        """Enter the cells of a point; gives the ids of the sets that they are asked of.

        prompts_key: what decides the rows and how they become tokens. fits: by id. swept: as ``erasing_cells`` has it.
        """
        section, spec = point.spec.guardedness, point.spec
        if section is None:
            return
        for variant in filter(erases, point.variants):
            for each in erasing_cells(point, variant, contexts, swept):
                labels, fit, only = tuple(each.cell.edits), fits.get(each.recipe.fit), each.recipe.only
                key = f"{prompts_key} {labels}"
                if fit is not None and set(labels) <= set(fit.prompts):
                    own = {label: fit.prompts[label] for label in labels}
                    fitted = partial(Guarding, "", section, "fit", own, fit.shots, spec.prompts.seed, (), fit.id, only)
                    yield self._enter(f"{key} {fit.id} {only}", fitted, each.cell)
                shots = section.shots
                if shots is None:
                    shots = spec.prompts.shots if fit is None else fit.shots
                held_out = partial(_held_out, source, section, labels, shots, spec.prompts.seed)
                yield self._enter(f"{key} {shots}", held_out, each.cell)

    def _enter(self, key: str, made: Callable[[], Guarding], cell: GuardedCell) -> str:
        """Enter a cell, once, under the prompts of that key, which are made where they are not there yet."""
        if key not in self._sets:
            self._sets[key] = replace(made(), id=f"guard{len(self._sets)}")
        known = self._sets[key]
        if cell not in known.cells:
            self._sets[key] = replace(known, cells=(*known.cells, cell))
        return known.id


def _held_out(
    source: PromptSource, section: GuardednessSection, labels: Sequence[str], shots: int, seed: int
) -> Guarding:
    """Prompts that no vector was fitted on: they are drawn as decoded ones are."""
    drawn = source.prompts("decodability", labels, shots, section.prompts)
    return Guarding("", section, "held_out", {label: tuple(rows) for label, rows in drawn.items()}, shots, seed)


def group_of(guarding: Guarding, label: str, prompts: Sequence[Prompt], cells: Sequence[GuardedCell]) -> Group:
    """A label's prompts with a copy for each cell, behind that of the unedited run; nothing of them is scored.

    Answers are cut to their first token, which is never fed in: the state before it is all that is read.
    """
    asked = tuple(replace(prompt, answer_ids=prompt.answer_ids[:1], more={}, alternatives={}) for prompt in prompts)
    copies = (Counterfactual(), *(Counterfactual(cell.edits[label]) for cell in cells))
    return Group(
        f"{guarding.id}-{label}", label, guarding.shots, guarding.seed, asked, (-1,) * len(asked), copies,
        noise_copy=0, uses=(), metrics=(),
    )  # fmt: skip


def usable(prompts: Sequence[Prompt]) -> list[Prompt]:
    return [prompt for prompt in prompts if not prompt.excluded]


def check_guardedness(guardings: Sequence[Guarding]) -> None:
    """Raises SpecError where held-out prompts cannot be parted into folds, or are all of one label."""
    for guarding in guardings:
        if len(guarding.prompts) < 2:
            what = f"probes tell labels apart, there is only {next(iter(guarding.prompts), 'none')}"
            raise SpecError("guardedness", what, "add tasks, or leave it out")
        if guarding.half == "held_out":
            prompts = [prompt for rows in guarding.prompts.values() for prompt in usable(rows)]
            check_folds(prompts, guarding.shots, "guardedness.probes", "guardedness.prompts")
        for label, prompts in guarding.prompts.items():
            _check_positions(group_of(guarding, label, usable(prompts), guarding.cells), guarding.cells)


def _check_positions(group: Group, cells: Sequence[GuardedCell]) -> None:
    """Raises SpecError where an edit is made at no token before some prompt's answer."""
    shapes = {shape_of(prompt): prompt for prompt in group.prompts}.values()
    for copy, cell in zip(group.copies[1:], cells, strict=True):
        if any(suffix_of(prompt, copy) is None for prompt in shapes):
            what = (
                f"position {cell.cell.row['position']} names no token before the answer in some prompt of {group.task}"
            )
            raise SpecError(
                f"interventions.{cell.cell.intervention}.position", what, "change it, or leave guardedness out"
            )
