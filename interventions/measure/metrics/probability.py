"""probability: how likely the answer is, as a fraction."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from interventions.measure.metrics.base import METRICS, AnswersOf, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor


@METRICS.register("probability")
class Probability:
    """p(answer | prompt) = product over answer tokens of p(token | prompt, earlier answer tokens): exp of logprob."""

    unit: ClassVar[str] = "fraction"
    answers_of: ClassVar[AnswersOf] = "own"

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        return logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]

    @staticmethod
    def combine(scores: Floats, starts: Ints) -> Floats:
        # logs are added up and not probabilities multiplied: an answer of many tokens would underflow in float32
        return np.exp(np.add.reduceat(scores, starts))
