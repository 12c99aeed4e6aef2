"""path: put into receivers what they are when a sender alone is another."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("path")
class Path:
    """h + strength * (r - h) at each of ``receivers``, r what it is in a run in which ``sender`` alone takes its state
    from ``source`` and what is ``frozen`` keeps the clean run's. A spec's strength is the sender's; a receiver takes r
    wholly.

    Source: path patching, Wang et al. 2022, arXiv 2211.00593, appendix B; Goldowsky-Dill et al. 2023, arXiv 2304.05969.
    """

    operand: ClassVar[OperandKind] = "path"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "makes {place} what it is in {donor}, felt by {receivers} alone"

    @staticmethod
    def apply(h: Tensor, operand: Tensor, strength: Tensor) -> Tensor:
        return h * (1 - strength) + operand * strength
