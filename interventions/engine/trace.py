"""All that happens inside a trace: masks, edits, captures and scores, on plain tensors.

Functions here are called from the trace's body, so they name torch and their arguments only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from interventions.engine.batch import Batch, Capture, EditGroup
from interventions.engine.families import Architecture, at_path
from interventions.engine.joining import grown_inputs, narrowed
from interventions.engine.sites import ATTENTION, HEAD, Place, place_of
from interventions.errors import ModelError
from interventions.ops import OPS
from interventions.plan.layout import ROOT

_SCORED_AT_ONCE = 1 << 24
"""Logits (read x vocab) scored together: the scores need a few more arrays of that size."""


def packed_mask(
    segments: Tensor, homes: Tensor, positions: Tensor, starts: Tensor, dtype: torch.dtype, window: int = 0
) -> Tensor:
    """Additive attention mask [batch, 1, seq, seq] of packed sequences: 0 where allowed.

    A token sees its own segment up to itself, and, of its home (the clean run that a copy belongs to)
    and of the row's root, the tokens before its own segment's first position. Windows go by position, not
    by column. Padding sees itself, so that no row is empty. Additive and not boolean: eager attention adds it.
    """
    q, k = segments[:, :, None], segments[:, None, :]
    q_at, k_at = positions[:, :, None], positions[:, None, :]
    above = (k == homes[:, :, None]) | (k == ROOT)
    allowed = ((q == k) & (k_at <= q_at)) | (above & (q != k) & (k_at < starts[:, :, None]))
    allowed &= (q >= 0) & (k >= 0)
    if window:
        allowed &= q_at - k_at < window
    allowed |= torch.eye(segments.shape[1], dtype=torch.bool, device=segments.device)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def mask_argument(batch: Batch, architecture: Architecture, window: int, dtype: torch.dtype) -> Any:
    """The mask in the form that the family's decoder takes: a tensor, or one a kind of attention.

    Raises ModelError for a family that takes no such mask: it would drop it in silence.
    """
    if not architecture.packs:
        raise ModelError(
            "--engine", f"models of family '{architecture.model_type}' cannot be packed", "use --engine rows or auto"
        )

    def mask(window: int) -> Tensor:
        return packed_mask(batch.segments, batch.homes, batch.positions, batch.starts, dtype, window)

    if architecture.mask != "by_type":
        return mask(window if architecture.mask == "window" else 0)
    by_type = {"full_attention": mask(0)}
    if window:
        by_type["sliding_attention"] = mask(window)
    return by_type


def states_at(module: Any, entered: Tensor | None, place: Place, architecture: Architecture, heads: int) -> Tensor:
    """The live hidden states at a place of a block (or of the final norm) [batch, seq, d_model]; at the
    head site [batch, seq, head, head_dim], the input of the attention's output projection.

    entered: what the block was given, where that was replaced.
    """
    if place.is_input:
        return module.input if entered is None else entered
    if place.rank == HEAD:
        return at_path(module, architecture.attention_out).input.unflatten(-1, (heads, -1))
    output = at_path(module, architecture.attention if place.rank == ATTENTION else architecture.mlp).output
    # by version of transformers, an attention's output is a tensor or begins with one
    return output[0] if isinstance(output, tuple) else output


def apply_edits(h: Tensor, groups: list[EditGroup]) -> list[Tensor]:
    """Edit h [batch, seq, (head,) d_model] in place; returns how far each edited token moved [edit] (max abs).

    Groups come in the order of the spec's edits, so that two edits of one token compose.
    """
    moved = []
    for g in groups:
        g = g.to(h.device)  # blocks may lie on several devices
        head = () if g.heads is None else (g.heads,)
        before = h[g.rows, g.cols, *head].float()
        operand = h[*g.sources, *head].float() if g.sources else g.operand
        after = OPS.get(g.op, "op").apply(before, operand, g.strength)
        h[g.rows, g.cols, *head] = after.to(h.dtype)
        moved.append((after - before).abs().amax(-1))
    return moved


def captured(h: Tensor, capture: Capture) -> Tensor:
    """Mean of h [batch, seq, (head,) d_model] over each group's tokens: [group, d_model], float32, heads
    side by side."""
    home = capture.rows.device
    states = h[capture.rows.to(h.device), capture.cols.to(h.device)].float().flatten(1).to(home)
    sums = torch.zeros(capture.groups, states.shape[-1], device=home)
    sums.index_add_(0, capture.group, states)
    return sums / torch.bincount(capture.group, minlength=capture.groups)[:, None]


def score_reads(logits: Tensor, batch: Batch, scorers: Mapping[str, Callable[..., Tensor]]) -> dict[str, Tensor]:
    """logits [read + clean, vocab] -> metric -> [read], float32, in slices of bounded size."""
    assert batch.targets is not None and batch.foils is not None and batch.clean is not None
    targets, foils, clean = (index.to(logits.device) for index in (batch.targets, batch.foils, batch.clean))
    parts: dict[str, list[Tensor]] = {name: [] for name in scorers}
    step = max(1, _SCORED_AT_ONCE // logits.shape[-1])
    for at in range(0, len(targets), step):
        piece = slice(at, at + step)
        args = (
            logits[: len(targets)][piece].float(), targets[piece], foils[piece], logits[clean[piece]].float(),
        )  # fmt: skip
        for name, score in scorers.items():
            parts[name].append(score(*args))
    return {name: torch.cat(found) for name, found in parts.items()}


def traced_forward(
    model: Any,
    architecture: Architecture,
    window: int,
    heads: int,
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
    head = at_path(model, architecture.head)
    stages = [*at_path(decoder, architecture.blocks), at_path(decoder, architecture.norm)]
    mask = mask_argument(batch, architecture, window, dtype) if batch.packed else None
    visits = visits_of(batch, len(stages))
    width = batch.first_width
    real = (batch.segments[:, :width] >= 0).long()
    inputs = {
        "input_ids": batch.tokens[:, :width],
        "position_ids": batch.positions[:, :width],
        "attention_mask": real,
    }
    read_rows, read_cols = batch.read_rows, batch.read_cols
    with torch.no_grad(), model.trace(inputs, use_cache=False, logits_to_keep=1):
        found = {"moved": [], "states": [[] for _ in batch.captures], "scores": {}}
        found.save()  # pyright: ignore[reportAttributeAccessIssue]  # nnsight's, on every object
        if mask is not None:
            args, kwargs = decoder.inputs
            decoder.inputs = (args, {**kwargs, "attention_mask": narrowed(mask, width)})
        for stage, visited in visits:
            module, entered = stages[stage], None
            if batch.joins and stage >= min(batch.joins):
                args, kwargs = grown_inputs(module.inputs, stage, batch, mask)
                module.inputs, entered = (args, kwargs), args[0]
            for place, groups, captures in visited:
                h = states_at(module, entered, place, architecture, heads)
                for i in captures:
                    found["states"][i].append(captured(h, batch.captures[i]))
                found["moved"].extend(apply_edits(h, groups))
        if read_rows is not None and read_cols is not None:
            final = stages[-1].output
            if batch.joins:  # some decoders hold the final norm's output to their own input's length
                stages[-1].output = final[:, :width]
            # where the residual stream is float32 (Mamba-2), the model casts before its head
            head.input = final[read_rows.to(final.device), read_cols.to(final.device)][None].to(dtype)
            found["scores"] = score_reads(model.output.logits[0], batch, scorers)
    return found


Visit = tuple[Place, list[EditGroup], list[int]]


def visits_of(batch: Batch, stages: int) -> list[tuple[int, list[Visit]]]:
    """(block, what to do there), in the order of the forward pass; the last block stands for the final norm.

    What to do: (place, edit groups, capture indices) in order. Blocks that run over a sequence which
    others joined are visited even if nothing else is to be done there.
    """
    places: dict[Place, tuple[list[EditGroup], list[int]]] = {}
    for group in batch.edits:
        places.setdefault(group.place, ([], []))[0].append(group)
    for i, capture in enumerate(batch.captures):
        for layer in capture.layers:
            places.setdefault(place_of(layer, capture.site), ([], []))[1].append(i)
    visits: dict[int, list[Visit]] = {block: [] for block in range(min(batch.joins, default=stages), stages)}
    for place, (groups, captures) in sorted(places.items(), key=lambda p: p[0]):
        visits.setdefault(place.block, []).append((place, groups, captures))
    return sorted(visits.items())
