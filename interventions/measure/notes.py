"""What a run must tell beside its numbers: fewer queries than asked, cells without any, values that overflowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from patchboard.errors import ModelError
from patchboard.plan.cells import position_label
from patchboard.plan.edges import too_few_others
from patchboard.plan.model import ModelPlan
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.tasks.frames import remarks

if TYPE_CHECKING:
    from patchboard.measure.scored_group import ScoredGroup  # loads polars, and plans have notes too


def capped(plans: Iterable[ModelPlan]) -> list[str]:
    """Notes on tasks whose pool holds fewer queries than the spec asks for."""
    groups = [group for plan in plans for group in plan.groups]
    notes = [
        f"task {group.task}: pool has {len(group.prompts)} queries of the {group.requested} asked for"
        for group in groups
        if len(group.prompts) < group.requested
    ]
    return list(dict.fromkeys(notes))


def of_prompts(plans: Sequence[ModelPlan]) -> list[str]:
    """Notes on what prompts hold that a reader would not expect: special tokens, inputs made one, few queries."""
    model = (lambda plan: f"{plan.section.name}: ") if len(plans) > 1 else (lambda plan: "")
    notes = [f"{model(plan)}{remark}" for plan in plans for entry in plan.frames for remark in remarks(entry)]
    for plan in plans:
        for merged in filter(None, (facts.get("merged_inputs") for facts in plan.tasks.values())):
            other = f" ({merged['contradicting']} of them with another answer)" if merged["contradicting"] else ""
            notes.append(
                f"{merged['inputs']} inputs differ from an earlier one only in white space or Unicode form, and are one"
                f" item with it{other}"
            )
    return [*dict.fromkeys(notes), *capped(plans), *lost_answers(plans)]


def foreseen(plans: Sequence[ModelPlan]) -> list[str]:
    """All that the plan tells already: notes on its models and on its prompts."""
    return [*(note for plan in plans for note in plan.facts.notes), *of_prompts(plans), *undrawn_edges(plans)]


def undrawn_edges(plans: Iterable[ModelPlan]) -> list[str]:
    """Notes on interventions whose random edges cannot be drawn in some prompts: these have no value of the control."""
    notes = []
    for group in (group for plan in plans for group in plan.groups):
        prompts = [prompt for prompt in group.prompts if not prompt.excluded]
        cells = [use.cell for use in group.uses if use.cell.control == "random_edges"]
        drawn = {(cell.intervention, e.origin, e.position) for cell in cells for e in cell.edits if e.draw >= 0}
        for name, origin, position in sorted(drawn):
            ends = [[positions_of(p, end, len(clean_tokens(p))) for end in (origin, position)] for p in prompts]
            lacking = [few for each in ends if (few := too_few_others(*each))]
            if lacking:
                lost, others = lacking[0]
                places = " -> ".join(map(position_label, (origin, position)))
                queries = f"{len(lacking)} of {len(prompts)} queries of {group.task}"
                notes.append(
                    f"{name} (random_edges) is not measured on {queries}: {places} loses {lost} edges at a token that"
                    f" has {others} other earlier tokens to draw from (the first one of the sequence is never drawn);"
                    " cut from fewer tokens, or leave the control out"
                )
    return list(dict.fromkeys(notes))


def lost_answers(plans: Iterable[ModelPlan]) -> list[str]:
    """Notes on tasks with right answers that cannot be told from the tokens behind a prompt."""
    groups = [group for plan in plans for group in plan.groups]
    lost = {group.id: sum(prompt.answers_lost for prompt in group.prompts) for group in groups}
    return [
        f"task {group.task}, {group.shots} shots: {lost[group.id]} further right answers are not counted as right: they"
        " do not begin at a token boundary, or hold something that is not in the tokenizer's vocabulary"
        for group in groups
        if lost[group.id]
    ]


class Unmeasured:
    """Interventions that no query of any task could take."""

    def __init__(self) -> None:
        self._seen: dict[str, bool] = {}
        self._positions: dict[str, dict[str, None]] = {}

    def update(self, scored: ScoredGroup) -> None:
        for use in scored.group.uses:
            if use.cell.control == "":
                name = use.cell.intervention
                self._positions.setdefault(name, {})[use.cell.row["position"]] = None
                measured = not np.isnan(scored.values["accuracy"][:, use.patched]).all()
                self._seen[name] = self._seen.get(name, False) or measured

    def notes(self) -> list[str]:
        return [
            f"{name} was measured on no query: its position ({' or '.join(self._positions[name])}) names no token of"
            " any evaluated prompt"
            for name, any_query in self._seen.items()
            if not any_query
        ]


class Overflow:
    """Sets every metric to NaN (left out) where a computed log-probability is NaN or any metric infinite.

    An exact match or a rank read from logits that are no numbers looks like a value and is none.
    """

    def __init__(self) -> None:
        self._lost: dict[tuple[str, str], tuple[int, set[int]]] = {}

    def update(self, scored: ScoredGroup) -> None:
        """Changes the group's arrays in place. Raises ModelError where the clean run is concerned."""
        group, values = scored.group, scored.values
        scores = [array for name, array in values.items() if name != "moved"]
        computed = ~np.isnan(values["accuracy"])  # 0 or 1 whatever the logits are
        overflowed = computed & (np.isnan(values["logprob"]) | np.any([np.isinf(array) for array in scores], axis=0))
        if overflowed[:, 0].any():
            raise not_finite(f"{overflowed[:, 0].sum()} clean log-probabilities of {group.task}")
        for use in group.uses:
            cell, count = use.cell, int(overflowed[:, use.patched].sum())
            if count:
                known, layers = self._lost.get((cell.intervention, cell.control), (0, set()))
                self._lost[cell.intervention, cell.control] = known + count, layers | {cell.row["layer"]}
        for array in values.values():
            array[overflowed] = np.nan

    def notes(self) -> list[str]:
        """A note on each intervention that lost a value."""
        return [
            f"{name}{f' ({control})' if control else ''} gave values that are no finite numbers at layer"
            f" {', '.join(map(str, sorted(layers)))}: {count} are left out; a smaller strength may mend that"
            for (name, control), (count, layers) in self._lost.items()
        ]


def not_finite(what: str) -> ModelError:
    """The error for a model that overflows, or has weights that are no numbers."""
    return ModelError(
        "model.name", f"{what} are not finite numbers", "set model.dtype: float32, or check the checkpoint's weights"
    )
