"""Which tokens of a packed sequence attend to which, as the mask that decoders take. Travels to a server as source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.plan.layout import ROOT

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch
    from patchboard.engine.block_sparse import BlockSparse
    from patchboard.engine.wiring import Wiring


def packed_mask(
    segments: Tensor, homes: Tensor, positions: Tensor, starts: Tensor, dtype: torch.dtype, window: int = 0
) -> Tensor:
    """Additive attention mask [batch, 1, seq, seq] of packed sequences: 0 where allowed.

    A token sees its own segment up to itself, and, of its home (the clean run that a copy belongs to)
    and of the row's root, the tokens before its own segment's first position. Additive and not boolean: eager attention
    adds it.
    """
    return additive(seen_columns(segments, homes, positions, starts, segments.shape[1], window), dtype)


def seen_columns(
    segments: Tensor, homes: Tensor, positions: Tensor, starts: Tensor, columns: int, window: int
) -> Tensor:
    """Which of the first columns each token attends to [batch, seq, columns] bool. Windows go by position, not by
    column. Padding sees itself, so that no row is empty."""
    q_at, k_at = positions[:, :, None], positions[:, None, :columns]
    of_tokens = homes[:, :, None], starts[:, :, None]
    seen = attends(segments[:, :, None], segments[:, None, :columns], q_at, k_at, *of_tokens)
    if window:
        seen &= q_at - k_at < window
    return seen | torch.eye(segments.shape[1], columns, dtype=torch.bool, device=segments.device)


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """[batch, 1, seq, columns]: 0 where a token attends, the least number elsewhere."""
    mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def attends(q: Tensor, k: Tensor, q_at: Tensor, k_at: Tensor, home: Tensor, start: Tensor) -> Tensor:
    """Whether a token of segment q at position q_at, whose segment has this home and first position, may attend to
    one of segment k at k_at, windows left out: of shapes that go together, bool."""
    above = (k == home) | (k == ROOT)
    allowed = ((q == k) & (k_at <= q_at)) | (above & (q != k) & (k_at < start))
    return allowed & (q >= 0) & (k >= 0)


def mask_argument(batch: Batch, wiring: Wiring, sparse: BlockSparse | None = None) -> Any:
    """The mask in the form that the family's decoder takes: a tensor, or one a kind of attention."""

    def mask(window: int) -> Tensor:
        if sparse is not None:
            return sparse.mask(wiring.dtype, window)
        return packed_mask(batch.segments, batch.homes, batch.positions, batch.starts, wiring.dtype, window)

    form, window = wiring.architecture.mask, wiring.window
    if form != "by_type":
        return mask(window if form == "window" else 0)
    by_type = {"full_attention": mask(0)}
    if window:
        by_type["sliding_attention"] = mask(window)
    return by_type
