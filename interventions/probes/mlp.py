"""mlp: a probe that need not be linear."""

from __future__ import annotations

from typing import Any, ClassVar

from patchboard.probes.base import PROBES

_UNITS, _STEPS, _PENALTY = 32, 60, 10.0
"""A small fixed budget. On SmolLM2-135M's states (870 of 576 numbers) 64 units, 60 epochs of Adam and twice the time
were right no oftener."""


@PROBES.register("mlp")
class Mlp:
    """A perceptron of one hidden layer (32 units, ReLU), 60 steps of L-BFGS with an l2 penalty: what it finds beyond
    the linear ones is there, and not along a direction."""

    linear: ClassVar[bool] = False

    @staticmethod
    def classifier(k: int, seed: int) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier((_UNITS,), solver="lbfgs", alpha=_PENALTY, max_iter=_STEPS, random_state=seed % 2**32)
