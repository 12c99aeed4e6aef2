"""Does packing hold on this very model? Some cells computed both ways before a run relies on it."""

from __future__ import annotations

import numpy as np

from patchboard.engine.pack_scores import PackScores
from patchboard.plan.model import EngineKind, Group, Pack
from patchboard.plan.packs import Budget

TOLERANCE = {"torch.float32": 1e-4, "torch.bfloat16": 0.5, "torch.float16": 0.1}
"""Nats of log-probability. float32: a hundred times what sums in another order make of it. The half
formats round at each layer in ways that change with the shape of the batch."""

_PROMPTS, _COPIES = 3, 8


def sample(group: Group, budget: Budget, way: EngineKind) -> Pack:
    """A spread of the group's copies and its first prompts, to be computed in one way."""
    # as rows, every copy is a whole sequence: long prompts are sampled less
    longest = max(len(prompt.token_ids) + len(prompt.answer_ids) for prompt in group.prompts[:_PROMPTS])
    copies = min(_COPIES, max(2, budget.tokens // (longest * _PROMPTS)))
    spread = np.unique(np.linspace(0, len(group.copies) - 1, copies).astype(int))
    prompts = tuple(range(min(_PROMPTS, len(group.prompts))))
    together = 1 if way == "rows" or not group.prefix else _PROMPTS
    return Pack(group.id, prompts, tuple(spread.tolist()), way, together)


def difference(shared: PackScores, rows: PackScores) -> float:
    """Largest difference in log-probability (nats) between a way and whole rows, of the same sample."""
    assert np.array_equal(shared.copy, rows.copy) and np.array_equal(shared.prompt, rows.prompt)
    return _largest(shared.scores["logprob"], rows.scores["logprob"])


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference; values that overflow in both ways agree, in one of them they don't."""
    finite = np.isfinite(a), np.isfinite(b)
    if (finite[0] != finite[1]).any():
        return float("inf")
    return float(np.abs(a - b)[finite[0]].max(initial=0.0))
