"""clamp_features: set features of a dictionary to a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor

    from patchboard.ops.feature_tensors import FeatureTensors


@OPS.register("clamp_features")
class ClampFeatures:
    """h + strength * (value * largest - f(h)) @ W_dec over the chosen features of a dictionary: each is set to `value`
    times its largest activation over the fit prompts, and what the dictionary does not explain stays.

    Source: feature steering, Templeton et al. 2024, Scaling Monosemanticity.
    """

    operand: ClassVar[OperandKind] = "features"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "clamps {vector} in {place}"

    @staticmethod
    def apply(h: Tensor, operand: FeatureTensors, strength: Tensor) -> Tensor:
        return h + strength * operand.lacking(h)
