"""rank: how many tokens are ahead of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from patchboard.metrics.base import METRICS, AnswersOf, Floats, of_first_token

if TYPE_CHECKING:
    from torch import Tensor


@METRICS.register("rank")
class Rank:
    """1 + number of tokens with a higher logit than the answer's first token; 1 is best. Of several right
    answers: of the best."""

    unit: ClassVar[str] = "tokens"
    answers_of: ClassVar[AnswersOf] = "own"

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        return 1 + (logits > logits.gather(-1, target[:, None])).sum(-1).float()

    combine = staticmethod(of_first_token)

    @staticmethod
    def either(a: Floats, b: Floats) -> Floats:
        return np.minimum(a, b)
