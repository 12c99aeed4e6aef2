"""add: steer the state along a vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("add")
class Add:
    """h + strength * v: what the state holds of the query stays, the vector comes on top. Of a dictionary's features
    v is the sum of their directions, each at its largest activation over the fit prompts.

    Source: activation addition; function vectors, Todd et al. 2024.
    """

    operand: ClassVar[OperandKind] = "vector"
    also: ClassVar[tuple[OperandKind, ...]] = ("features",)
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "adds {vector} to {place}"

    @staticmethod
    def apply(h: Tensor, operand: Tensor, strength: Tensor) -> Tensor:
        return h + strength * operand
