"""All that happens inside a trace: masks, edits, captures and scores, on plain tensors.

Functions here are called from the trace's body, so they name torch and their arguments only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from interventions.engine.batch import Batch, Capture, EditGroup
from interventions.engine.families import SITES, Architecture, at_path
from interventions.ops import OPS

_SCORED_AT_ONCE = 1 << 24
"""Logits (read x vocab) scored together: the scores need a few more arrays of that size."""


def packed_mask(segments: Tensor, positions: Tensor, starts: Tensor, dtype: torch.dtype, window: int = 0) -> Tensor:
    """Additive attention mask [batch, 1, seq, seq] of packed sequences: 0 where allowed.

    A token sees its own segment up to itself, and, if it is in a copy, the clean tokens before the
    copy's first position. Windows go by position, not by column. Padding sees itself, so that no row
    is empty. Additive and not boolean: eager attention adds it.
    """
    q, k = segments[:, :, None], segments[:, None, :]
    q_at, k_at = positions[:, :, None], positions[:, None, :]
    allowed = ((q == k) & (k_at <= q_at)) | ((k == 0) & (q > 0) & (k_at < starts[:, :, None]))
    allowed &= (q >= 0) & (k >= 0)
    if window:
        allowed &= q_at - k_at < window
    allowed |= torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def mask_argument(batch: Batch, architecture: Architecture, window: int, dtype: torch.dtype) -> Any:
    """The mask in the form that the family's decoder takes: a tensor, or one a kind of attention."""
    full = packed_mask(batch.segments, batch.positions, batch.starts, dtype)
    if not architecture.sliding:
        return full
    sliding = packed_mask(batch.segments, batch.positions, batch.starts, dtype, window)
    return {"full_attention": full, "sliding_attention": sliding}


def hidden_of(value: Any) -> Tensor:
    """The hidden states of a module's output, which is a tensor or begins with one by version."""
    return value[0] if isinstance(value, tuple) else value


def apply_edits(h: Tensor, groups: list[EditGroup]) -> list[Tensor]:
    """Edit h [batch, seq, d_model] in place; returns how far each edited token moved [edit] (max abs).

    Groups come in the order of the spec's edits, so that two edits of one token compose.
    """
    moved = []
    for g in groups:
        before = h[g.rows, g.cols].float()
        operand = h[g.sources[0], g.sources[1]].float() if g.sources else g.operand
        after = OPS.get(g.op, "op").apply(before, operand, g.strength)
        h[g.rows, g.cols] = after.to(h.dtype)
        moved.append((after - before).abs().amax(-1))
    return moved


def captured(h: Tensor, capture: Capture) -> Tensor:
    """Mean of h [batch, seq, d_model] over each group's tokens: [group, d_model], float32."""
    states = h[capture.rows, capture.cols].float()
    sums = torch.zeros(capture.groups, h.shape[-1], device=h.device)
    sums.index_add_(0, capture.group.to(h.device), states)
    count = torch.bincount(capture.group, minlength=capture.groups).to(h.device)
    return sums / count[:, None]


def score_reads(logits: Tensor, batch: Batch, scorers: Mapping[str, Callable[..., Tensor]]) -> dict[str, Tensor]:
    """logits [read + clean, vocab] -> metric -> [read], float32, in slices of bounded size."""
    assert batch.targets is not None and batch.foils is not None and batch.clean is not None
    parts: dict[str, list[Tensor]] = {name: [] for name in scorers}
    step = max(1, _SCORED_AT_ONCE // logits.shape[-1])
    for at in range(0, len(batch.targets), step):
        piece = slice(at, at + step)
        args = (
            logits[: len(batch.targets)][piece].float(), batch.targets[piece], batch.foils[piece],
            logits[batch.clean[piece]].float(),
        )  # fmt: skip
        for name, score in scorers.items():
            parts[name].append(score(*args))
    return {name: torch.cat(found) for name, found in parts.items()}


def traced_forward(
    model: Any,
    architecture: Architecture,
    window: int,
    dtype: torch.dtype,
    batch: Batch,
    scorers: Mapping[str, Callable],
) -> dict[str, Any]:
    """One forward pass through nnsight: edits made, captures taken, reads scored.

    model: an nnsight TransformersModel. Returns plain tensors: ``scores`` metric -> [read],
    ``states`` one list of [group, d_model] by layer a capture, ``moved`` one [edit] an edit group, in the
    order of the visits.
    """
    decoder = at_path(model, architecture.decoder)
    blocks, norm, head = (
        at_path(decoder, architecture.blocks),
        at_path(decoder, architecture.norm),
        at_path(model, architecture.head),
    )
    mask = mask_argument(batch, architecture, window, dtype) if batch.packed else None
    visits = visits_of(batch)
    real = (batch.segments >= 0).long()
    inputs = {"input_ids": batch.tokens, "position_ids": batch.positions, "attention_mask": real}
    reads = batch.read_rows is not None
    with torch.no_grad(), model.trace(inputs, use_cache=False, logits_to_keep=1):
        found = {"moved": [], "states": [[] for _ in batch.captures], "scores": {}}
        found.save()  # pyright: ignore[reportAttributeAccessIssue]  # nnsight's, on every object
        if mask is not None:
            args, kwargs = decoder.inputs
            decoder.inputs = (args, {**kwargs, "attention_mask": mask})
        for layer, site, groups, captures in visits:
            block = blocks[layer]
            if site == "resid_pre":
                h = block.input
            elif site == "attn_out":
                h = hidden_of(at_path(block, architecture.attention).output)
            elif site == "mlp_out":
                h = hidden_of(at_path(block, architecture.mlp).output)
            else:
                h = hidden_of(block.output)
            for i in captures:
                found["states"][i].append(captured(h, batch.captures[i]))
            if groups:
                found["moved"].extend(apply_edits(h, groups))
        if reads:
            final = norm.output
            head.input = final[batch.read_rows, batch.read_cols][None]
            found["scores"] = score_reads(model.output.logits[0], batch, scorers)
    return found


def visits_of(batch: Batch) -> list[tuple[int, str, list[EditGroup], list[int]]]:
    """(layer, site, edit groups, capture indices) in the order of the forward pass."""
    places: dict[tuple[int, int], tuple[list[EditGroup], list[int]]] = {}
    for group in batch.edits:
        places.setdefault((group.layer, SITES.index(group.site)), ([], []))[0].append(group)
    for i, capture in enumerate(batch.captures):
        for layer in capture.layers:
            places.setdefault((layer, SITES.index(capture.site)), ([], []))[1].append(i)
    return [(layer, SITES[site], *what) for (layer, site), what in sorted(places.items(), key=lambda p: p[0])]
