"""logit_difference: the answer against a wrong answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.metrics.base import METRICS, AnswersOf, of_first_answer, of_first_token, slope_of_first_token

if TYPE_CHECKING:
    from torch import Tensor


@METRICS.register("logit_difference")
class LogitDifference:
    """logit(answer) - logit(foil) at the first answer token; the foil is another task's answer to the
    same query (or another query's answer). NaN where there is no foil. Of several right answers: of
    the first; none of them is a foil."""

    unit: ClassVar[str] = "logits"
    answers_of: ClassVar[AnswersOf] = "own"

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        known = foil.clamp(min=0)
        difference = logits.gather(-1, target[:, None]) - logits.gather(-1, known[:, None])
        return difference[:, 0].masked_fill(foil < 0, float("nan"))

    combine = staticmethod(of_first_token)
    slope = staticmethod(slope_of_first_token)
    either = staticmethod(of_first_answer)
