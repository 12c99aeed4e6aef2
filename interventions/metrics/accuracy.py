"""accuracy and conversion: is the answer, token for token, what greedy decoding would give?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from patchboard.metrics.base import METRICS, AnswersOf, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor


@METRICS.register("accuracy")
class Accuracy:
    """Exact match (0 or 1): greedy decoding begins with the answer if and only if the argmax is right
    at every teacher-forced answer token. Of several right answers: of any."""

    unit: ClassVar[str] = "fraction"
    answers_of: ClassVar[AnswersOf] = "own"

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        return (logits.argmax(-1) == target).float()

    @staticmethod
    def combine(scores: Floats, starts: Ints) -> Floats:
        return np.minimum.reduceat(scores, starts)

    @staticmethod
    def either(a: Floats, b: Floats) -> Floats:
        return np.maximum(a, b)


@METRICS.register("conversion")
class Conversion(Accuracy):
    """Exact match of the answer under the task whose vector is in use, where that differs from the
    prompt's own task, or of the answer to the source prompt of the row whose state is in use (interchange
    intervention accuracy); queries on which the two agree (in any answer) are excluded."""

    answers_of: ClassVar[AnswersOf] = "vector_task"
