"""Sites: where in a block an edit or a capture happens, and in which order a forward pass meets them.

A place is (block, rank), a pair that sorts in the order of the visits; ``block`` counts one past the last block
for the input of the final norm. Plain, since it travels to a server.
"""

from __future__ import annotations

from typing import TypeAlias

SITES = ("resid_pre", "head", "attn_out", "mlp_out", "resid_post")
"""In the order in which a block computes them."""

Place: TypeAlias = tuple[int, int]

# The output of block l is the input of block l + 1, or of the final norm: one place, one way to edit it.
_POST, _PRE, HEAD, ATTENTION, MLP = range(5)
_RANKS = {"resid_pre": _PRE, "head": HEAD, "attn_out": ATTENTION, "mlp_out": MLP}


def place_of(layer: int, site: str) -> Place:
    """Where the edits of a block's site are made."""
    return (layer + 1, _POST) if site == "resid_post" else (layer, _RANKS[site])


def is_input(place: Place) -> bool:
    """Whether it is the residual stream as it enters the block."""
    return place[1] <= _PRE
