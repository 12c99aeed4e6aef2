"""logprob: how likely the answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from patchboard.metrics.base import METRICS, AnswersOf, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor


@METRICS.register("logprob")
class Logprob:
    """sum over answer tokens of log p(token | prompt, earlier answer tokens), in nats. Of several right answers: log of
    the sum of their probabilities."""

    unit: ClassVar[str] = "nats"
    answers_of: ClassVar[AnswersOf] = "own"

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        return logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]

    @staticmethod
    def combine(scores: Floats, starts: Ints) -> Floats:
        return np.add.reduceat(scores, starts)

    @staticmethod
    def slope(scores: Floats, starts: Ints) -> Floats:
        return np.ones(len(scores))

    @staticmethod
    def either(a: Floats, b: Floats) -> Floats:
        return np.logaddexp(a, b)
