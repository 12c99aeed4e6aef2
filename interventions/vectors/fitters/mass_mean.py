"""mass_mean: what separates two sets of states, by their means and their covariance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from patchboard.spec.vectors import Takes, VectorSection
from patchboard.vectors.fitters.base import FITTERS, Build, Fitter, check_two_sets


@FITTERS.register("mass_mean")
class MassMean(Fitter):
    """`[a, b]`: mean of a minus mean of b, through the inverse of the covariance within both (Marks & Tegmark 2023), at
    the length of that difference: what tells a from b, where directions that vary anyway count less"""

    takes: ClassVar[Takes] = "pair"
    phrase: ClassVar[str] = "the mass-mean direction from {second} to {first}"

    @staticmethod
    def needs_states(vector: VectorSection) -> bool:
        return True

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        check_two_sets(vector, tasks, where)

    @classmethod
    def builder(cls) -> Build:
        from patchboard.vectors.probes import build_mass_mean

        return build_mass_mean
