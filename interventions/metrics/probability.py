"""probability: how likely the answer is, as a fraction."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from patchboard.metrics.base import METRICS, AnswersOf, Floats, Ints
from patchboard.metrics.logprob import Logprob


@METRICS.register("probability")
class Probability:
    """p(answer | prompt) = product over answer tokens of p(token | prompt, earlier answer tokens): exp of logprob.
    Of several right answers: their sum."""

    unit: ClassVar[str] = "fraction"
    answers_of: ClassVar[AnswersOf] = "own"

    score = staticmethod(Logprob.score)

    @staticmethod
    def combine(scores: Floats, starts: Ints) -> Floats:
        # logs are added up and not probabilities multiplied: an answer of many tokens would underflow in float32
        return np.exp(Logprob.combine(scores, starts))

    @staticmethod
    def slope(scores: Floats, starts: Ints) -> Floats:
        return np.repeat(Probability.combine(scores, starts), np.diff(starts, append=len(scores)))

    @staticmethod
    def either(a: Floats, b: Floats) -> Floats:
        return a + b
