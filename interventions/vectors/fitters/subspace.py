"""subspace: the directions in which tasks differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from patchboard.errors import SpecError
from patchboard.spec.sites import HEADED
from patchboard.spec.vectors import Takes, VectorSection
from patchboard.vectors.fitters.base import FITTERS, Build, Fitter


@FITTERS.register("subspace")
class Subspace(Fitter):
    """`tasks`: with `method: pca` the leading `rank` principal directions of the labels' means, with
    `method: leace` the projection of Belrose et al. 2023"""

    takes: ClassVar[Takes] = "tasks"
    makes: ClassVar[Literal["vector", "subspace"]] = "subspace"
    phrase: ClassVar[str] = "the {rank}subspace in which the tasks' states differ ({method})"

    @staticmethod
    def needs_states(vector: VectorSection) -> bool:
        return vector.method == "leace"

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        if vector.method == "leace" and site in HEADED:
            what = "leace has no form for a single head's part of a state"
            raise SpecError(f"{where}.vector.method", what, "use method: pca, or another site")
        if len(tasks) < 2:
            raise SpecError(
                f"{where}.vector", f"a subspace of tasks needs two labels, there is {len(tasks)}", "add tasks"
            )
        if vector.rank and vector.rank > len(tasks) - 1:
            what = f"{vector.rank} dimensions of {len(tasks)} labels"
            raise SpecError(f"{where}.vector.rank", what, f"use at most {len(tasks) - 1}")

    @classmethod
    def builder(cls) -> Build:
        from patchboard.vectors.subspace import build_subspace

        return build_subspace
