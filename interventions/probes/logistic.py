"""logistic: the linear probe."""

from __future__ import annotations

from typing import Any, ClassVar

from patchboard.probes.base import PROBES


@PROBES.register("logistic")
class Logistic:
    """Multinomial logistic regression: p(task | h) = softmax(W h + b), which minimises the summed log loss
    + ||W||² / 2, h scaled. The usual linear probe (Alain & Bengio 2016)."""

    linear: ClassVar[bool] = True

    @staticmethod
    def classifier(k: int, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression

        # most states are told apart within 100 steps; those of no label never settle, and need not
        return LogisticRegression(max_iter=200)
