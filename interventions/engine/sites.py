"""Sites: where in a block an edit or a capture happens, and in which order a forward pass meets them.

A place is (block, rank), a pair that sorts in the order of the visits; ``block`` counts one past the last block
for the input of the final norm. Plain, since it travels to a server.
"""

from __future__ import annotations

from typing import TypeAlias

from patchboard.plan.cells import ATTENTION
from patchboard.spec.sites import SITES

Place: TypeAlias = tuple[int, int]

MODULES = {
    "q": ("q", "output"),
    "k": ("k", "output"),
    "v": ("v", "output"),
    "pattern": ("attention_out", "input"),
    "head": ("attention_out", "input"),
    "attn_out": ("attention", "output"),
    "mlp_pre": ("mlp_up", "output"),
    "mlp_act": ("mlp_down", "input"),
    "mlp_out": ("mlp", "output"),
}
"""Site inside a block -> (field of ``families.Architecture`` that has its module's path, which end of it). Of a
pattern, where what a head makes of it stands."""

# The output of block l is the input of block l + 1, or of the final norm: one place, one way to edit it.
_POST, _PRE, MASK = range(3)
"""MASK: what attention inside the block may see, given to it beside the stream."""
_INSIDE = SITES[1:-1]


def place_of(layer: int, site: str) -> Place:
    """Where the edits of a block's site are made."""
    if site == "resid_post":
        return layer + 1, _POST
    if site == ATTENTION:
        return layer, MASK
    return layer, 1 + MASK + _INSIDE.index(site) if site in _INSIDE else _PRE


def layer_and_site(place: Place) -> tuple[int, str]:
    """The block and site that edits of a place are written with: ``place_of`` undone."""
    block, rank = place
    if rank == _POST:
        return block - 1, "resid_post"
    return block, "resid_pre" if rank == _PRE else site_of(place)


def is_input(place: Place) -> bool:
    """Whether it is what the block is given: the residual stream as it enters, or the mask."""
    return place[1] <= MASK


def site_of(place: Place) -> str:
    """The site inside a block that a place is of."""
    return _INSIDE[place[1] - MASK - 1]
