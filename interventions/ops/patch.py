"""patch: put a vector in place of the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("patch")
class Patch:
    """h + strength * (v - h): the state replaced by the vector, at strength 1 wholly.

    Source: activation patching with a task vector, Hendel et al. 2023; arXiv 2412.12276, section 4.
    """

    operand: ClassVar[OperandKind] = "vector"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "replaces {place} by {vector}"

    @staticmethod
    def apply(h: Tensor, operand: Tensor, strength: Tensor) -> Tensor:
        # lerp in this form gives the vector itself, to the bit, at strength 1
        return h * (1 - strength) + operand * strength
