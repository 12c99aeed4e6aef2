"""knock_out: forbid tokens to attend to others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.ops.base import OPS, OperandKind

if TYPE_CHECKING:
    from torch import Tensor


@OPS.register("knock_out")
class KnockOut:
    """m - strength * 3.4e38, m what the mask adds to the attention scores of the cell's ``edges`` (0: open), in its
    heads: at strength 1, the only one that a spec takes, no attention is left on them. Not of states.

    Source: attention knock-out, Geva et al. 2023, arXiv 2304.14767.
    """

    operand: ClassVar[OperandKind] = "edges"
    neutral: ClassVar[float] = 0.0
    phrase: ClassVar[str] = "cuts {place}"

    @staticmethod
    def apply(h: Tensor, operand: None, strength: Tensor) -> Tensor:
        return h - strength * 3.4028234663852886e38
