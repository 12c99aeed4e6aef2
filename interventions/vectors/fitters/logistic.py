"""logistic: the direction of a logistic regression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from patchboard.spec.vectors import Takes, VectorSection
from patchboard.vectors.fitters.base import FITTERS, Build, Fitter, check_two_sets


@FITTERS.register("logistic")
class Logistic(Fitter):
    """`[a, b]`: the weights of a logistic regression that tells states of a from those of b, with penalty `l2`, at the
    length of the difference of their means"""

    takes: ClassVar[Takes] = "pair"
    options: ClassVar[Mapping[str, Any]] = {"l2": 1.0}
    phrase: ClassVar[str] = "the logistic probe's direction from {second} to {first}"

    @staticmethod
    def needs_states(vector: VectorSection) -> bool:
        return True

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        check_two_sets(vector, tasks, where)

    @classmethod
    def builder(cls) -> Build:
        from patchboard.vectors.probes import build_logistic

        return build_logistic
