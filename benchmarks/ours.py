"""The library's engine on a group, as a run uses it: plan the packs, score each, gather what was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.local import LocalEngine
from patchboard.metrics.logprob import Logprob
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Group
from patchboard.plan.packs import Budget, packs_of

WAYS = ("wavefront", "rows")


def whole(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
    """A scorer that brings all logits home: to compare, not to be timed."""
    return logits


@dataclass(frozen=True)
class Sweeper:
    """What a sweep needs beside its group."""

    engine: LocalEngine
    facts: ModelFacts
    budget: Budget
    operands: Mapping[str, Any]

    def sweep(self, group: Group, way: str, score: Any = Logprob.score) -> np.ndarray:
        """Scores [cell, prompt, …] of the group's copies behind its clean run, planning included."""
        found: dict[tuple[int, int], np.ndarray] = {}
        for pack in packs_of(group, self.facts, way, self.budget):
            scored = self.engine.score_pack(group, pack, self.operands, {"score": score})
            for prompt, copy, value in zip(scored.prompt, scored.copy, scored.scores["score"], strict=True):
                found[int(copy), int(prompt)] = value
        cells, prompts = range(1, len(group.copies)), range(len(group.prompts))
        return np.stack([np.stack([found[c, p] for p in prompts]) for c in cells])

    def logits(self, group: Group, way: str) -> Tensor:
        """Last token's logits [cell, prompt, vocab], float32."""
        return torch.from_numpy(self.sweep(group, way, whole))
