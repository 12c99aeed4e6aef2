"""Attention weights of one run put into another: read in passes before, then mixed with the run's own values.

What a head gives is a sum of values by its weights. So where a value is 1 in the place of a number of its own and 0 in
all others, the head gives its weights: to as many tokens a pass as a value has numbers. That is so in every family
that mixes values as its projection gives them, with whichever kernel of attention. Travels to a server as source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.later import runs_read_by
from patchboard.engine.masks import attends
from patchboard.engine.record import Record
from patchboard.engine.sites import place_of
from patchboard.plan.layout import PAD

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch, EditGroup
    from patchboard.engine.wiring import Wiring


def is_pattern(group: EditGroup) -> bool:
    """Whether these edits put in attention weights."""
    return group.place == place_of(group.place[0], "pattern")


def weights_read(forward: Callable[[Any, dict[str, Any]], dict[str, Any]], batch: Batch, wiring: Wiring) -> dict:
    """By ``id`` of each edit group of patterns its weights [edit, position] float32: how much each edit's source token
    attends to the token at each position of its own run, in the edit's head.

    forward: ``traced_forward`` of a batch with operands. A first pass reads what the heads give; in each further one
    the values of the blocks in question are those that tell weights, and what the heads gave is put back behind them.
    """
    groups = [group for group in batch.edits if is_pattern(group)]
    if not groups:
        return {}
    runs, where = runs_read_by(batch, groups)
    layers = sorted({group.place[0] for group in groups})
    size, heads, kv_heads = wiring.head_dim, wiring.heads, len(wiring.slots["v"])
    real = runs.segments != PAD
    rows, cols = real.nonzero(as_tuple=True)
    (given,) = forward(_with(runs, [], [_heads_at(layers, rows, cols)]), {})["states"]
    widths = _widths(real)
    positions = int(runs.positions.max()) + 1
    found = [torch.zeros(len(own), positions, device=own.device) for own, _ in where]
    for start in range(0, int(widths.max()), size):
        kept = widths > start  # shorter rows are told
        some, number = kept[rows], kept.cumsum(0) - 1
        own_rows, own_cols = number[rows[some]], cols[some]
        ones = torch.nn.functional.pad(torch.eye(size, device=cols.device), (0, 0, 1, 0))  # the first: none of these
        inside = (own_cols >= start) & (own_cols < start + size)
        operands: dict[str, Any] = {"values": ones[(own_cols - start + 1) * inside].repeat_interleave(kv_heads, 0)}
        edits = []
        for layer, whole in zip(layers, given, strict=True):
            operands[f"given {layer}"] = whole[some].unflatten(-1, (heads, size)).flatten(0, 1)
            edits.append(_put(layer, "v", own_rows, own_cols, kv_heads, "values"))
            edits.append(_put(layer, "head", own_rows, own_cols, heads, f"given {layer}"))
        probe = _with(_rows_of(runs, kept), edits, [_heads_at(layers, own_rows, own_cols)])
        (mixed,) = forward(probe, operands)["states"]
        token = torch.zeros_like(runs.segments).masked_scatter(real, some.cumsum(0) - 1)
        width = min(size, runs.segments.shape[1] - start)
        for group, (at_row, at_col), weights in zip(groups, where, found, strict=True):
            edit = kept[at_row].nonzero()[:, 0]
            row, head = at_row[edit], group.heads.to(edit.device)[edit]  # pyright: ignore[reportOptionalMemberAccess]
            states = mixed[layers.index(group.place[0])].unflatten(-1, (heads, size))
            told = states[token[row, at_col[edit]], head, :width] * real[row, start : start + width]
            weights[edit] = weights[edit].scatter_add(1, runs.positions[row, start : start + width], told)
    return {id(group): weights for group, weights in zip(groups, found, strict=True)}


def mixed_values(
    group: EditGroup, weights: Tensor, h: Tensor, slots: Tensor | None, batch: Batch, heads: int
) -> Tensor:
    """[edit, head_dim] float32, what the heads of these edits give: values h [batch, seq, slot, head_dim] of the tokens
    that each edited token sees, by weights [edit, position]. slots: of each key-value head; heads: that share them."""
    assert slots is not None, "values stand by head"
    device, width = h.device, h.shape[1]
    rows, cols = group.rows.to(device), group.cols.to(device)
    segments, positions = batch.segments.to(device), batch.positions.to(device)
    at = (rows[:, None], cols[:, None])
    seen = attends(
        segments[at], segments[rows, :width], positions[at], positions[rows, :width],
        batch.homes.to(device)[at], batch.starts.to(device)[at],
    )  # fmt: skip
    weights = weights.to(device)
    own = weights.gather(1, positions[rows, :width].clamp(max=weights.shape[1] - 1)) * seen
    which = slots[group.heads.to(device) // (heads // len(slots))]  # pyright: ignore[reportOptionalMemberAccess]
    values = h[rows[:, None], torch.arange(width, device=device)[None], which[:, None]].float()
    return torch.bmm(own[:, None], values)[:, 0]


def tokens_probed(batch: Batch, keys: int) -> int:
    """How many tokens the passes compute in which weights are read, padding left out. keys: of one pass."""
    groups = [group for group in batch.edits if is_pattern(group)]
    if not groups:
        return 0
    real = runs_read_by(batch, groups)[0].segments != PAD
    return int((real.sum(1) * (1 + (_widths(real) + keys - 1) // keys)).sum())


def _widths(real: Tensor) -> Tensor:
    """real [row, col] bool -> [row] the columns up to its last real token."""
    return (real * torch.arange(1, real.shape[1] + 1, device=real.device)).amax(1)


def _with(runs: Any, edits: list[Any], captures: list[Any]) -> Any:
    return Record(**{**vars(runs), "edits": edits, "captures": captures})


def _rows_of(runs: Any, kept: Tensor) -> Any:
    names = ("tokens", "positions", "segments", "homes", "starts")
    some = {name: getattr(runs, name)[kept] for name in names}
    return Record(**{**vars(runs), **some, "embeds": None if runs.embeds is None else runs.embeds[kept]})


def _heads_at(layers: Sequence[int], rows: Tensor, cols: Tensor) -> Any:
    """A capture of what all heads give at each of these tokens."""
    each = torch.arange(len(rows), device=rows.device)
    places = {"site": "head", "layers": tuple(layers), "rows": rows, "cols": cols}
    return Record(**places, group=each, groups=len(rows), edited=False)


def _put(layer: int, site: str, rows: Tensor, cols: Tensor, heads: int, key: str) -> Any:
    """An edit group that puts an operand [token x head, head_dim] into all heads at these tokens."""
    edits = len(rows) * heads
    return Record(
        op="patch", place=place_of(layer, site), rows=rows.repeat_interleave(heads), cols=cols.repeat_interleave(heads),
        heads=torch.arange(heads, device=rows.device).repeat(len(rows)), strength=torch.ones(edits, 1), keys=(key,),
        which=None, sources=None, read=None, units=None, attended=None, seeds=None, queries=None,
        copies=torch.zeros(edits, dtype=torch.long),
    )  # fmt: skip
