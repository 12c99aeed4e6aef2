"""logistic: the direction of a logistic regression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from patchboard.vectors.fitters.base import FITTERS, Build, Separating


@FITTERS.register("logistic")
class Logistic(Separating):
    """`[a, b]`: the weights of a logistic regression that tells states of a from those of b, with penalty `l2`, at the
    length of the difference of their means"""

    options: ClassVar[Mapping[str, Any]] = {"l2": 1.0}
    phrase: ClassVar[str] = "the logistic probe's direction from {second} to {first}"

    @classmethod
    def builder(cls) -> Build:
        from patchboard.vectors.probes import build_logistic

        return build_logistic
