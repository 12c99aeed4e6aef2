"""zero: take the state away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from interventions.ops.base import OPS

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("zero")
class Zero:
    """(1 - strength) * h: nothing is left at strength 1 (zero ablation)."""

    operand = "none"
    neutral = 0.0

    @staticmethod
    def apply(h: Tensor, operand: None, strength: Tensor) -> Tensor:
        return h * (1 - strength)
