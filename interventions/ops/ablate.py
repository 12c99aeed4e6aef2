"""ablate: remove what a state holds of a subspace."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind, SubspaceTensors

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("ablate")
class Ablate:
    """h - strength * P (h - center), P = left @ right: the subspace's part set to its mean.

    P is orthogonal for PCA and oblique for LEACE (Belrose et al. 2023, theorem 4.2).
    """

    operand: ClassVar[OperandKind] = "subspace"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "removes {vector} from {place}"
    erases: ClassVar[bool] = True

    @staticmethod
    def apply(h: Tensor, operand: SubspaceTensors, strength: Tensor) -> Tensor:
        return h - strength * ((h - operand.center) @ operand.right.T @ operand.left.T)
