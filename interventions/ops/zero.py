"""zero: take the state away."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("zero")
class Zero:
    """(1 - strength) * h: nothing is left at strength 1 (zero ablation)."""

    operand: ClassVar[OperandKind] = "none"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "sets {place} to zero"

    @staticmethod
    def apply(h: Tensor, operand: None, strength: Tensor) -> Tensor:
        return h * (1 - strength)
