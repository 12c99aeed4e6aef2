"""contrast: the mean difference of paired texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from patchboard.spec.vectors import Takes, VectorSection
from patchboard.tasks.contrast import read_pairs
from patchboard.vectors.files.located import located
from patchboard.vectors.fitters.base import FITTERS, Build, Fitter


@FITTERS.register("contrast")
class Contrast(Fitter):
    """a file of paired texts, each row a `positive` and a `negative` one: the mean over the pairs of the difference of
    their states (contrastive activation addition, Rimsky et al. 2023), at the edit's position in the texts"""

    takes: ClassVar[Takes] = "file"
    phrase: ClassVar[str] = "the mean difference of the paired texts of {first}"

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        assert vector.contrast is not None
        at = f"{where}.vector.contrast"
        read_pairs(located(vector.contrast, at).path, at)

    @classmethod
    def builder(cls) -> Build:
        from patchboard.vectors.fitters.difference import Difference

        return Difference.build
