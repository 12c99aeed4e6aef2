"""Edges of attention that are cut in one block: its mask, closed for some tokens of some copies.

Called inside the trace: torch and plain arguments only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from patchboard.engine.batch import EditGroup


def without_edges(
    args: tuple, kwargs: dict[str, Any], groups: list[EditGroup], heads: int, ops: Mapping[str, Callable[..., Any]]
) -> tuple[tuple, dict[str, Any], list[Tensor]]:
    """(args, kwargs) of a block with its additive mask [batch, 1, to, from] closed at the groups' edges, and for each
    group [edge] 1 where an edge was open in some head, 0 where there was nothing to cut (outside of a window).

    The mask is told by its four dimensions, as in ``joining``; a copy of it is closed, since blocks share it. Where a
    group has heads of its own the copy is [batch, heads, to, from].
    """
    opened: list[Tensor] = []
    by_head = any([g.units is not None for g in groups])

    def closed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple([closed(one) for one in value])
        if not isinstance(value, Tensor) or value.dim() != 4:
            return value
        mask = value.expand(-1, heads if by_head else -1, -1, -1).clone()
        lowest, edges = torch.finfo(mask.dtype).min, mask.permute(0, 2, 3, 1)  # a view [batch, to, from, head]
        opened.clear()
        for g in groups:
            assert g.attended is not None
            at = (g.rows.to(mask.device), g.cols.to(mask.device), g.attended.to(mask.device))
            if g.units is not None:
                at = (*[index[:, None] for index in at], g.units.to(mask.device)[None])
            before = edges[at].float()
            after = ops[g.op](before, None, g.strength.to(mask.device)).clamp(min=lowest)
            edges[at] = after.to(mask.dtype)
            opened.append((before > lowest / 2).any(-1).float())
        return mask

    args = (args[0], *[closed(value) for value in args[1:]])
    kwargs = {name: closed(value) for name, value in kwargs.items()}
    assert opened, "the block was given no mask"
    return args, kwargs, opened
