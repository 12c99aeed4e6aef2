"""What packs compute, counted from the layouts that will run, and what a pass holds at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from patchboard.plan.facts import ModelFacts
from patchboard.plan.layout import answer_starts
from patchboard.plan.model import Group, Pack
from patchboard.plan.packing import lay_out
from patchboard.plan.packs import Budget
from patchboard.plan.suffix import shape_of


def activation_floats(facts: ModelFacts, budget: Budget) -> int:
    """Largest arrays of one pack: a few hidden states and the MLP's, masks, the logits read."""
    states = 8 * facts.width + 3 * (facts.mlp or 4 * facts.width)
    return budget.tokens * states + 2 * budget.tokens * 2048 + 3 * budget.read_floats


def packs_cost(
    group: Group, packs: Sequence[Pack], facts: ModelFacts, known: dict[tuple, tuple[int, ...]] | None = None
) -> Counter[str]:
    """Tokens, token-layers and passes before of the layouts that will run; prompts of one shape are laid out once.
    known: what some shapes of prompts take, of groups with the same copies."""
    known = {} if known is None else known
    total: Counter[str] = Counter()
    for pack in packs:
        tokens, token_layers, _, _, before = _pack_cost(group, pack, facts.layers, known)
        total.update(tokens=tokens, token_layers=token_layers, before=before)
    return total


def pack_sizes(group: Group, packs: Sequence[Pack]) -> list[tuple[int, int, int]]:
    """(tokens, scored answers, those of the prompts' own tasks) of each pack's layout, padding left out."""
    known: dict[tuple, tuple[int, ...]] = {}
    return [(tokens, answers, own) for tokens, _, answers, own, _ in (_pack_cost(group, p, 1, known) for p in packs)]


def _pack_cost(group: Group, pack: Pack, layers: int, known: dict[tuple, tuple[int, ...]]) -> tuple[int, ...]:
    """(tokens, token-layers, scored answers, own tasks' answers, passes before) of a pack; known: what some shapes of
    prompts take."""
    total, before = (0, 0, 0, 0), 0
    for start in range(pack.prompts.start, pack.prompts.stop, pack.together):
        inside = slice(start, min(start + pack.together, pack.prompts.stop))
        row = group.prompts[inside]
        donors = {source: prompts[inside] for source, prompts in group.donors.items()}
        shapes = (tuple(map(shape_of, prompts)) for prompts in (row, *donors.values()))
        key = (pack.way, pack.copies, *shapes)
        if key not in known:
            copies = [group.copies[c] for c in pack.copies]
            layout = lay_out(row, [-1] * len(row), copies, pack.way, group.prefix, pack.together, donors)
            scored = layout.reads.copy[answer_starts(layout.reads.prompt, layout.reads.copy)].tolist()
            own = sum(not copies[c].target for c in scored)
            counts = layout.computed_tokens, layout.token_layers(layers), len(scored), own
            known[key] = (*counts, layout.passes_before)
        *counts, passes = known[key]
        total = tuple(a + b for a, b in zip(total, counts, strict=True))
        before = max(before, passes)
    return (*total, before)
