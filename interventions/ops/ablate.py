"""ablate: remove what a state holds of a subspace, or of a dictionary's features."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind, SubspaceTensors

if TYPE_CHECKING:
    from torch import Tensor

    from patchboard.ops.feature_tensors import FeatureTensors


@OPS.register("ablate")
class Ablate:
    """h - strength * P (h - center), P = left @ right: the subspace's part set to its mean.

    P is orthogonal for PCA and oblique for LEACE (Belrose et al. 2023, theorem 4.2). Of a dictionary's features
    h - strength * f(h) @ W_dec over those chosen: they are set to 0, and what the dictionary does not explain stays.
    """

    operand: ClassVar[OperandKind] = "subspace"
    also: ClassVar[tuple[OperandKind, ...]] = ("features",)
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "removes {vector} from {place}"
    erases: ClassVar[bool] = True

    @staticmethod
    def apply(h: Tensor, operand: SubspaceTensors | FeatureTensors, strength: Tensor) -> Tensor:
        return h - strength * operand.part(h)
