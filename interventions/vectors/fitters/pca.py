"""pca: the directions in which states vary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from patchboard.errors import SpecError
from patchboard.spec.vectors import VectorSection
from patchboard.vectors.fitters.base import FITTERS, Build, Fitter


@FITTERS.register("pca")
class Pca(Fitter):
    """the `rank` leading principal directions (1 by default) of the fit prompts' states themselves, about their mean; a
    source as under `mean`"""

    makes: ClassVar[Literal["vector", "subspace"]] = "subspace"
    phrase: ClassVar[str] = "the {rank}subspace in which the states of {first} vary most"

    @staticmethod
    def needs_states(vector: VectorSection) -> bool:
        return True

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        if (vector.rank or 1) >= vector.prompts:
            what = f"{vector.rank or 1} dimensions of {vector.prompts} prompts a task"
            raise SpecError(f"{where}.vector.rank", what, "use fewer, or more prompts")

    @classmethod
    def builder(cls) -> Build:
        from patchboard.vectors.subspace import build_pca

        return build_pca
