"""swap: what a state holds of a subspace, exchanged for what the state of another run holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind, SubspaceTensors

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("swap")
class Swap:
    """h + strength * P (h' - h), P = left @ right, h' the state of another run: the subspace's part is that of
    `source`, what lies outside stays.

    Source: distributed interchange intervention, Geiger et al. 2023, arXiv 2303.02536.
    """

    operand: ClassVar[OperandKind] = "subspace and state"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "exchanges what {place} holds of {vector} for what it holds in {donor}"

    @staticmethod
    def apply(h: Tensor, operand: tuple[SubspaceTensors, Tensor], strength: Tensor) -> Tensor:
        subspace, other = operand
        return h + strength * ((other - h) @ subspace.right.T @ subspace.left.T)
