"""Does packing hold on this very model? Some cells computed both ways before a run relies on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from interventions.engine.local import LocalEngine, Scorer
from interventions.plan.model import Group, Pack
from interventions.plan.packs import TOKENS

TOLERANCE = {"torch.float32": 1e-4, "torch.bfloat16": 0.5, "torch.float16": 0.1}
"""Nats of log-probability. float32: a hundred times what sums in another order make of it. The half
formats round at each layer in ways that change with the shape of the batch."""

_PROMPTS, _COPIES = 4, 12


def largest_difference(engine: LocalEngine, group: Group, operands: Mapping[str, Any], score: Scorer) -> float:
    """Largest difference in log-probability, over a spread of the group's copies and its first prompts."""
    # as rows, every copy is a whole sequence: long prompts are sampled less
    longest = max(len(prompt.token_ids) + len(prompt.answer_ids) for prompt in group.prompts[:_PROMPTS])
    copies = min(_COPIES, max(2, TOKENS // (longest * _PROMPTS)))
    spread = np.unique(np.linspace(0, len(group.copies) - 1, copies).astype(int))
    sample = Group(
        "sample", group.task, group.shots, group.seed, group.prompts[:_PROMPTS], group.foils[:_PROMPTS],
        tuple(group.copies[i] for i in spread), 0, (), group.metrics,
    )  # fmt: skip
    pack = Pack("sample", range(len(sample.prompts)), range(len(sample.copies)))
    packed, rows = (engine.score_pack(sample, pack, way, operands, {"logprob": score}) for way in (True, False))
    assert np.array_equal(packed.copy, rows.copy) and np.array_equal(packed.prompt, rows.prompt)
    difference = np.abs(packed.scores["logprob"] - rows.scores["logprob"])
    return float(difference.max()) if len(difference) else 0.0
