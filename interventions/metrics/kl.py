"""kl: how far the edit moves the next-token distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.metrics.base import METRICS, AnswersOf, of_first_answer, of_first_token

if TYPE_CHECKING:
    from torch import Tensor


@METRICS.register("kl")
class KullbackLeibler:
    """KL(clean || patched) = sum_t p(t) (log p(t) - log q(t)) at the first answer token, in nats."""

    unit: ClassVar[str] = "nats"
    answers_of: ClassVar[AnswersOf] = "own"

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        p, q = clean.log_softmax(-1), logits.log_softmax(-1)
        return (p.exp() * (p - q)).sum(-1)

    combine = staticmethod(of_first_token)
    either = staticmethod(of_first_answer)
