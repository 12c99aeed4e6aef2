"""noise: corrupt a state by Gaussian noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("noise")
class Noise:
    """h + strength * sd * eps: eps is standard normal, sd the standard deviation of the numbers in the model's token
    embeddings as they enter the first block, so strength is in such units (causal tracing corrupts at 3). Drawn by the
    prompts' seed, task, query, token and place: two interventions that corrupt one place do it alike, and `draw` asks
    for others.

    Source: causal tracing, Meng et al. 2022, arXiv 2202.05262.
    """

    operand: ClassVar[OperandKind] = "noise"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "adds Gaussian noise to {place}"

    @staticmethod
    def apply(h: Tensor, operand: Tensor, strength: Tensor) -> Tensor:
        return h + strength * operand
