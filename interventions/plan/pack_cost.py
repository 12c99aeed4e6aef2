"""What packs compute, counted from the layouts that will run, and what a pass holds at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from patchboard.plan.facts import ModelFacts
from patchboard.plan.flops import flops_of
from patchboard.plan.layout import answer_starts
from patchboard.plan.model import Group, Pack
from patchboard.plan.packing import lay_out
from patchboard.plan.packs import Budget
from patchboard.plan.pass_work import PassShape, pass_shape, side_by_side, work_of
from patchboard.plan.suffix import shape_of


def activation_floats(facts: ModelFacts, budget: Budget) -> int:
    """Largest arrays of one pack: a few hidden states and the MLP's, masks, the logits read."""
    states = 8 * facts.width + 3 * facts.inside
    return budget.tokens * states + 2 * budget.tokens * 2048 + 3 * budget.read_floats


@dataclass(frozen=True)
class _Counted:
    """Of some of a pack's prompts, or of all: tokens, token-layers, scored answers, those of the prompts' own tasks,
    passes before."""

    tokens: int
    token_layers: int
    answers: int
    own: int
    before: int
    shape: PassShape


Known = dict[tuple, _Counted]
"""What some shapes of prompts take, of groups with the same copies."""


def packs_cost(
    group: Group, packs: Sequence[Pack], facts: ModelFacts, budget: Budget, known: Known | None = None
) -> Counter[str]:
    """Tokens, token-layers, FLOPs and passes before of the layouts that will run; prompts of one shape are laid out
    once. FLOPs are of arrays with their padding, the other counts of tokens alone."""
    known = {} if known is None else known
    total: Counter[str] = Counter()
    for pack in packs:
        found = _pack_cost(group, pack, facts.layers, known)
        flops = flops_of(work_of(found.shape, facts, budget), facts)
        total.update(tokens=found.tokens, token_layers=found.token_layers, before=found.before, flops=flops)
    return total


def pack_sizes(group: Group, packs: Sequence[Pack]) -> list[tuple[int, int, int]]:
    """(tokens, scored answers, those of the prompts' own tasks) of each pack's layout, padding left out."""
    known: Known = {}
    counted = (_pack_cost(group, pack, 1, known) for pack in packs)
    return [(found.tokens, found.answers, found.own) for found in counted]


def _pack_cost(group: Group, pack: Pack, layers: int, known: Known) -> _Counted:
    """known: what some shapes of prompts take, to which new ones are added."""
    parts: Counter[_Counted] = Counter()
    for start in range(0, len(pack.prompts), pack.together):
        inside = pack.prompts[start : start + pack.together]
        row = [group.prompts[i] for i in inside]
        donors = {source: [prompts[i] for i in inside] for source, prompts in group.donors.items()}
        shapes = (tuple(map(shape_of, prompts)) for prompts in (row, *donors.values()))
        key = (pack.way, pack.copies, *shapes)
        if key not in known:
            copies = [group.copies[c] for c in pack.copies]
            layout = lay_out(row, [-1] * len(row), copies, pack.way, group.prefix, pack.together, donors)
            scored = layout.reads.copy[answer_starts(layout.reads.prompt, layout.reads.copy)].tolist()
            own = sum(not copies[c].target for c in scored)
            known[key] = _Counted(
                layout.computed_tokens, layout.token_layers(layers), len(scored), own, layout.passes_before,
                pass_shape(layout, read=bool(group.metrics)),
            )  # fmt: skip
        parts[known[key]] += 1
    shapes_of: Counter[PassShape] = Counter()
    for part, often in parts.items():
        shapes_of[part.shape] += often

    def summed(name: str) -> int:
        return sum(getattr(part, name) * often for part, often in parts.items())

    return _Counted(
        summed("tokens"), summed("token_layers"), summed("answers"), summed("own"),
        max((part.before for part in parts), default=0), side_by_side(shapes_of),
    )  # fmt: skip
