"""resample: put in the state that another prompt has at the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("resample")
class Resample:
    """h + strength * (h' - h), h' the state of another prompt's clean run: a prompt of task ``source`` with the
    same query (of same_task: the next query), its n-th token of the position for the n-th.

    Source: interchange intervention, Geiger et al. 2021; resampling ablation, Chan et al. 2022.
    """

    operand: ClassVar[OperandKind] = "state"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "replaces {place} by what it is in {donor}"

    @staticmethod
    def apply(h: Tensor, operand: Tensor, strength: Tensor) -> Tensor:
        return h * (1 - strength) + operand * strength
