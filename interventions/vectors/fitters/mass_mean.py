"""mass_mean: what separates two sets of states, by their means and their covariance."""

from __future__ import annotations

from typing import ClassVar

from patchboard.vectors.fitters.base import FITTERS, Build, Separating


@FITTERS.register("mass_mean")
class MassMean(Separating):
    """`[a, b]`: mean of a minus mean of b, through the inverse of the covariance within both (Marks & Tegmark 2023), at
    the length of that difference: what tells a from b, where directions that vary anyway count less"""

    phrase: ClassVar[str] = "the mass-mean direction from {second} to {first}"

    @classmethod
    def builder(cls) -> Build:
        from patchboard.vectors.probes import build_mass_mean

        return build_mass_mean
