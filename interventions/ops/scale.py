"""scale: lengthen or shorten the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("scale")
class Scale:
    """strength * h: here strength is the factor, 1 leaves the state as it is."""

    operand: ClassVar[OperandKind] = "none"
    neutral: ClassVar[float] = 1.0
    phrase: ClassVar[str] = "scales {place}"

    @staticmethod
    def apply(h: Tensor, operand: None, strength: Tensor) -> Tensor:
        return h * strength
