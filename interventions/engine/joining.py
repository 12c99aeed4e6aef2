"""Copies that join a forward pass at a later block: what its blocks are given from there on.

Below its edited block a copy is the clean run, so its tokens enter there with the clean tokens' states.
The blocks after it run over the longer sequence: hidden states, mask, position ids and rotary embeddings
are grown to its width. Called inside the trace: torch and plain arguments only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch


def masks_of(mask: Any) -> list[Tensor]:
    """The tensors of a decoder's mask argument: one, or one a kind of attention."""
    return list(mask.values()) if isinstance(mask, dict) else [mask]


def narrowed(mask: Any, width: int) -> Any:
    """The mask argument for the first ``width`` columns."""
    if isinstance(mask, dict):
        return {kind: one[..., :width, :width] for kind, one in mask.items()}
    return mask[..., :width, :width]


def grown_inputs(inputs: tuple[tuple, dict], block: int, batch: Batch, mask: Any) -> tuple[tuple, dict]:
    """(args, kwargs) of a block, its first argument the hidden states [batch, seq, d_model], grown.

    The hidden states come as wide as the block before left them; everything else comes as wide as the
    model's own input, so it is grown anew at each block. What is grown is told by its value (families name
    and place these arguments differently): a mask has four dimensions, position ids are a matrix
    of integers, rotary embeddings a tuple of [batch, seq, head_dim].
    """
    width = max(join.stop for layer, join in batch.joins.items() if layer <= block)
    args, kwargs = inputs
    h = args[0]
    if block in batch.joins:
        source = batch.joins[block].source.to(h.device)  # blocks may lie on several devices
        h = torch.cat([h, h.gather(1, source[..., None].expand(-1, -1, h.shape[-1]))], dim=1)
    origin = _origin(batch, width)

    def grow(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(grow(one) for one in value)
        if not isinstance(value, Tensor):
            return value
        if value.dim() == 4:
            return _same_kind(value, mask)[..., :width, :width]
        if value.dim() == 3:
            index = origin[..., None].expand(-1, -1, value.shape[-1])
            return value.expand(len(origin), -1, -1).gather(1, index.to(value.device))
        if value.dim() == 2 and not value.is_floating_point():
            return value.expand(len(origin), -1).gather(1, origin.to(value.device))
        return value

    return (h, *(grow(value) for value in args[1:])), {name: grow(value) for name, value in kwargs.items()}


def _origin(batch: Batch, width: int) -> Tensor:
    """[batch, width] the column of the model's own input that each column stands for."""
    own = torch.arange(batch.first_width, device=batch.tokens.device).expand(len(batch.tokens), -1)
    joined = [join.source for _, join in sorted(batch.joins.items()) if join.stop <= width]
    return torch.cat([own, *joined], dim=1)


def _same_kind(tensor: Tensor, mask: Any) -> Tensor:
    """The whole mask of which ``given`` is the narrow beginning: they share their storage, or, where it was
    brought to another device or process, their values."""
    whole = masks_of(mask)
    width = tensor.shape[-1]
    same = (one for one in whole if one.data_ptr() == tensor.data_ptr())
    equal = (one for one in whole if torch.equal(one[..., :width, :width].to(tensor.device), tensor))
    match = next(same, None)
    return next(equal) if match is None else match
