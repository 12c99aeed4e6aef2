"""Sites: where in a block an edit or a capture happens, and in which order a forward pass meets them."""

from __future__ import annotations

from typing import NamedTuple

SITES = ("resid_pre", "head", "attn_out", "mlp_out", "resid_post")
"""In the order in which a block computes them."""


class Place(NamedTuple):
    """A site of a block as a forward pass meets it; sorting gives the order of the visits.

    ``block`` counts one past the last block for the input of the final norm.
    """

    block: int
    rank: int

    @property
    def is_input(self) -> bool:
        """On the residual stream as it enters the block."""
        return self.rank <= _PRE


# The output of block l is the input of block l + 1, or of the final norm: one place, one way to edit it.
_POST, _PRE, HEAD, ATTENTION, MLP = range(5)
_RANKS = {"resid_pre": _PRE, "head": HEAD, "attn_out": ATTENTION, "mlp_out": MLP}


def place_of(layer: int, site: str) -> Place:
    """Where the edits of a block's site are made."""
    return Place(layer + 1, _POST) if site == "resid_post" else Place(layer, _RANKS[site])
