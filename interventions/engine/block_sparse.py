"""Attention of a packed sequence without the pairs that no token may see.

Of a pack's columns the first ``trunk`` are those that enter at the first block: the unedited runs, a prompt's own in
front, behind it those of its sources, which see themselves alone. All behind the trunk are copies, which see columns of
the prompt's own run and their own segment, and nothing of each other. So attention is the trunk's runs x themselves,
copies x the prompt's own run and segments x themselves; a copy's two parts are put together by their log-sum-exps:

    o = o_trunk + sigmoid(lse_own - lse_trunk) (o_own - o_trunk)

which is the softmax over both, exactly. One kernel with a mask would compute trunk + copies squared.

It is an attention function of transformers, registered for the time of one pass: families whose attention asks that
registry (``Architecture.sparse``) use it, on a model in this process. A host keeps the dense mask (``masks``).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from patchboard.engine.batch import Batch
from patchboard.engine.families import ROWS_FILE
from patchboard.engine.masks import additive, seen_columns
from patchboard.errors import ModelError
from patchboard.plan.layout import PAD, ROOT

_CHANGING = ("softcap", "s_aux", "position_bias")
"""Arguments of attention functions that change what comes out."""
_NAME = "patchboard_block_sparse"


@dataclass(frozen=True)
class _Segments:
    """Segments whose lengths are alike: rows [segment]; columns [segment, m], the last one again where a
    segment is shorter than m; real [segment, m]: whether it is a column of its own."""

    rows: Tensor
    columns: Tensor
    real: Tensor


def is_block_sparse(batch: Batch) -> bool:
    """Whether the batch has copies behind its clean runs whose attention can be parted: edges of attention are cut in a
    dense mask."""
    return bool(batch.joins) and all(group.attended is None for group in batch.edits)


class BlockSparse:
    """The attention of one batch. Its mask has for each query the trunk's columns, then those of its own segment,
    counted from that segment's first: [batch, 1, seq, trunk + longest segment], so whatever a family does to a mask
    (a window, another device) is done to both parts. As sequences grow it is sliced as a dense one is: those there at
    some width have segments that end within it."""

    def __init__(self, batch: Batch):
        self.batch, self.trunk = batch, batch.first_width
        segments = batch.segments[:, self.trunk :].cpu()
        self._begin, self._length = _extents(segments)
        """[batch, copy column]: the first column of its segment, from the trunk's end on; that segment's length."""
        self.longest = int(self._length[segments != PAD].max())
        trunk = batch.segments[:, : self.trunk].cpu()
        self.runs = _whole_runs(trunk, batch.starts[:, : self.trunk].cpu())
        """The trunk's runs where none sees another: a causal kernel computes each from its first token on, where no
        window cuts that off. None where several go on from a shared prefix."""
        self.seen = self.trunk if self.runs is None else int((trunk == ROOT).sum(1).max())
        """Columns of the trunk of which copies see any."""
        self._known: dict[tuple[int, str], list[_Segments]] = {}

    def mask(self, dtype: torch.dtype, window: int = 0) -> Tensor:
        """The additive mask of the trunk's columns and the own segment's; windows as in ``masks.packed_mask``."""
        batch, trunk = self.batch, self.trunk
        seen = seen_columns(batch.segments, batch.homes, batch.positions, batch.starts, trunk, window)
        behind = (torch.arange(seen.shape[1] - trunk) - self._begin)[..., None] - torch.arange(self.longest)
        own = torch.zeros(*batch.segments.shape, self.longest, dtype=torch.bool)
        own[:, trunk:] = (behind >= 0) & (behind < window) if window else behind >= 0
        return additive(torch.cat([seen, own.to(seen.device)], 2), dtype)

    @contextmanager
    def registered(self, model: Any) -> Iterator[None]:
        """Within it the model's attention is this, which makes no graph. model: of transformers, set to sdpa."""
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

        before = model.config._attn_implementation
        ALL_ATTENTION_FUNCTIONS.register(_NAME, self.attention)
        ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS[before])
        model.config._attn_implementation = _NAME
        try:
            with torch.no_grad():
                yield
        finally:
            model.config._attn_implementation = before
            del ALL_ATTENTION_FUNCTIONS._global_mapping[_NAME], ALL_MASK_ATTENTION_FUNCTIONS._global_mapping[_NAME]

    def attention(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor,
        dropout: float = 0.0, scaling: float | None = None, **more: Any,
    ) -> tuple[Tensor, None]:  # fmt: skip
        """query [batch, head, seq, head_dim]; key, value of as many heads or of fewer, each for some that follow each
        other; attention_mask as ``mask`` gives it, cut to the sequence -> [batch, seq, head, head_dim]."""
        unknown = next((name for name in _CHANGING if more.get(name) is not None), "dropout" if dropout else "")
        if unknown:
            what = f"the attention of {type(module).__name__} has {unknown}, which packs of this process leave out"
            raise ModelError("--engine", what, f"take sparse=True out of its family's row in {ROWS_FILE}")
        trunk, width = self.trunk, query.shape[2]
        shared = query.shape[1] // key.shape[1]
        key, value = (x[:, :, None].expand(-1, -1, shared, -1, -1).flatten(1, 2) for x in (key, value))
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        q, k, v = (x[:, :, :trunk] for x in (query, key, value))
        first = self._trunk(q, k, v, attention_mask, scale)
        if width == trunk:
            return first.contiguous(), None
        q, k, v = query[:, :, trunk:], key[:, :, : self.seen], value[:, :, : self.seen]
        out, lse = _with_lse(q, k, v, attention_mask[:, :, trunk:, : self.seen], scale)
        out, lse = out.transpose(1, 2), lse.transpose(1, 2)  # [batch, copy column, head, …]
        q, k, v = (x[:, :, trunk:].transpose(1, 2) for x in (query, key, value))
        if self.longest == 1:
            out = _joined(out, lse, v, torch.linalg.vecdot(q, k).float() * scale)
        else:
            own = attention_mask[:, 0, trunk:, trunk:]
            out = out.clone()
            for some in self._there(width - trunk, query.device):
                at = (some.rows[:, None], some.columns)
                qs, ks, vs = (x[at].transpose(1, 2) for x in (q, k, v))
                bias = own[at][:, None, :, : qs.shape[2]]
                o, lse_own = (x.transpose(1, 2) for x in _with_lse(qs, ks, vs, bias, scale))
                where = (some.rows[:, None].expand_as(some.columns)[some.real], some.columns[some.real])
                out[where] = _joined(out[where], lse[where], o[some.real], lse_own[some.real])
        return torch.cat([first, out], 1), None

    def _trunk(self, q: Tensor, k: Tensor, v: Tensor, attention_mask: Tensor, scale: float) -> Tensor:
        """The trunk's own attention [batch, trunk, head, head_dim]; zeros where it is padding."""
        runs, trunk = self.runs, self.trunk
        if runs is None or bool((attention_mask[runs.rows, 0, runs.columns[:, -1], runs.columns[:, 0]] != 0).any()):
            mask = attention_mask[:, :, :trunk, :trunk]
            return scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(1, 2)
        if runs.columns.shape == (len(q), trunk):  # a run a row
            return scaled_dot_product_attention(q, k, v, scale=scale, is_causal=True).transpose(1, 2)
        rows, columns, real = (each.to(q.device) for each in (runs.rows, runs.columns, runs.real))
        qs, ks, vs = (x.transpose(1, 2)[rows[:, None], columns].transpose(1, 2) for x in (q, k, v))
        own = scaled_dot_product_attention(qs, ks, vs, scale=scale, is_causal=True).transpose(1, 2)
        out = torch.zeros_like(q).transpose(1, 2)
        out[rows[:, None].expand_as(columns)[real], columns[real]] = own[real]
        return out

    def _there(self, copies: int, device: torch.device) -> list[_Segments]:
        """The segments in the first ``copies`` columns behind the trunk, by lengths between two powers of two."""
        key = (copies, str(device))
        if key not in self._known:  # blocks that nothing joins see the same
            self._known[key] = self._sorted(copies, device)
        return self._known[key]

    def _sorted(self, copies: int, device: torch.device) -> list[_Segments]:
        segments = self.batch.segments[:, self.trunk : self.trunk + copies].cpu()
        columns = torch.arange(copies)
        firsts = (segments != PAD) & (self._begin[:, :copies] == columns)
        rows, begins = firsts.nonzero(as_tuple=True)
        lengths = self._length[rows, begins]
        found, longest = [], 1
        while bool((lengths > longest // 2).any()):
            some = (lengths > longest // 2) & (lengths <= longest)
            if bool(some.any()):
                found.append(_segments(rows[some], begins[some], lengths[some], device))
            longest *= 2
        return found


def _segments(rows: Tensor, begins: Tensor, lengths: Tensor, device: torch.device) -> _Segments:
    span = torch.arange(int(lengths.max()))
    columns = begins[:, None] + torch.minimum(span, lengths[:, None] - 1)
    return _Segments(rows.to(device), columns.to(device), (span < lengths[:, None]).to(device))


def _whole_runs(segments: Tensor, starts: Tensor) -> _Segments | None:
    """The runs [batch, column] that hold all that they see; None where some goes on from another's tokens."""
    real = segments != PAD
    if bool((starts[real] > 0).any()):
        return None
    begin, length = _extents(segments)
    rows, begins = (real & (begin == torch.arange(segments.shape[1]))).nonzero(as_tuple=True)
    return _segments(rows, begins, length[rows, begins], segments.device)


def _extents(segments: Tensor) -> tuple[Tensor, Tensor]:
    """[batch, column] each: the first column of the run of equal segments that it lies in, and that run's length."""
    batch, width = segments.shape
    columns = torch.arange(width).expand(batch, -1)
    new = torch.ones_like(segments, dtype=torch.bool)
    new[:, 1:] = segments[:, 1:] != segments[:, :-1]
    begin = torch.where(new, columns, 0).cummax(1).values
    ends = torch.where(new, columns, width).flip(1).cummin(1).values.flip(1)  # of this column or a later run's first
    after = torch.cat([ends[:, 1:], torch.full((batch, 1), width)], 1)
    return begin, after - begin


def _with_lse(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention [batch, head, to, head_dim] and the log-sum-exp of its scores [batch, head, to] float32."""
    if q.device.type == "cpu":  # the kernel behind torch's attention, whose second value it keeps to itself
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=mask, scale=scale)
    return _by_formula(q, k, v, mask, scale)


def _by_formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    scores = (q @ k.transpose(-1, -2)).float() * scale + mask.float()
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(v.dtype) @ v, lse


def _joined(a: Tensor, lse_a: Tensor, b: Tensor, lse_b: Tensor) -> Tensor:
    """The attention over two sets of keys, from that over each [..., head_dim] and its log-sum-exp [...]."""
    share = (lse_b - lse_a).sigmoid()[..., None]
    return torch.lerp(a.float(), b.float(), share).to(a.dtype)  # in one go over both, which lie far apart in memory
