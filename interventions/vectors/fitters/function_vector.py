"""function_vector: what some heads write, on average."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from patchboard.errors import SpecError
from patchboard.spec.vectors import VectorSection
from patchboard.vectors.fitters.base import FITTERS, Build, Fitter

_OF_A_STREAM = ("resid_pre", "resid_post", "attn_out")
"""Sites of function vectors: the stream, and what heads together add to it."""


@FITTERS.register("function_vector")
class FunctionVector(Fitter):
    """what `heads` together write into the residual stream: the sum over them of their own output,
    mean over the fit prompts of that task (a source as under `mean`), through their columns of the projection"""

    reads_heads: ClassVar[bool] = True
    phrase: ClassVar[str] = "the function vector of {heads}, their mean outputs for {first}"

    @classmethod
    def check(cls, vector: VectorSection, site: str, tasks: Sequence[str], where: str) -> None:
        if site not in _OF_A_STREAM:
            what = f"a function vector is as wide as the residual stream, and is used at {', '.join(_OF_A_STREAM)}"
            raise SpecError(f"{where}.site", what, f"write one of these instead of {site}, or vector: {{mean: …}}")

    @classmethod
    def joint_builder(cls) -> Build:
        from patchboard.vectors.function import function_vectors

        return function_vectors
