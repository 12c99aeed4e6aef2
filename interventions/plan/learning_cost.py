"""What learning vectors takes: how large a pass with gradients may be, and what all of its passes come to."""

from __future__ import annotations

from dataclasses import replace

from patchboard.plan.facts import ModelFacts
from patchboard.plan.learning import Training, part_of
from patchboard.plan.pack_cost import Known, activation_floats, packs_cost
from patchboard.plan.packs import Budget, best_sequence, packs_of, size_of
from patchboard.plan.screen_passes import token_floats


def learning_budget(training: Training, facts: ModelFacts, budget: Budget) -> Budget:
    """What a pass forwards and backwards may hold, of a pass that may hold ``budget``: all blocks' states at once."""
    longest = best_sequence(facts, size_of(training.group).prompt)
    tokens = activation_floats(facts, budget) // token_floats(facts, longest)
    tokens, read_floats = max(1, min(budget.tokens, tokens)), max(1, budget.read_floats // 4)
    return replace(budget, tokens=tokens, read_floats=read_floats, sparse=False, streamed=False)


def learning_cost(training: Training, facts: ModelFacts, engine: str, budget: Budget) -> dict[str, int]:
    """``learned`` (vectors), ``learning_passes``, ``learning_tokens`` and ``learning_token_layers``, as if every vector
    took all of its steps: forwards; steps go backwards too, which is about twice as much again. engine: as of
    ``packs_of``."""
    budget = learning_budget(training, facts, budget)
    copies = range(len(training.group.copies))
    total = {"learned": len(training.keys), "learning_passes": 0, "learning_tokens": 0, "learning_token_layers": 0}
    known: Known = {}
    times = [(batch, 1) for batch in training.batches()] + [(training.held_out, len(training.looks()))]
    for prompts, often in times:
        group = part_of(training.group, prompts, copies)
        packs = list(packs_of(group, facts, engine, budget))
        taken = packs_cost(group, packs, facts, budget, known)
        total["learning_passes"] += often * (len(packs) + taken["before"])
        total["learning_tokens"] += often * taken["tokens"]
        total["learning_token_layers"] += often * taken["token_layers"]
    return total
