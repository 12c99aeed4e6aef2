"""A layout as tensors of small integers: what one forward pass is fed, what it edits, reads and captures.

Nothing here depends on a model or a device, so a batch can be sent to where the model is (``record``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.sites import Place, place_of
from patchboard.ops import OPS
from patchboard.plan.cells import STATE
from patchboard.plan.layout import PAD, EditSpan, Layout
from patchboard.spec.sites import HEADED, PATTERN


@dataclass
class EditGroup:
    """Edited tokens that one call of one op serves. rows, cols, copies [edit]; strength [edit, 1].

    keys: names of its operands: one subspace or set of features, or vectors, of which edit i takes ``which[i]``; none
    where the op needs none, or puts in the states that stand at ``sources`` = (rows, cols), there or, where it is
    given, at the place ``read``, which the pass meets before. With ``sources`` and a key it puts in the part of these
    states that lies in that subspace.
    """

    op: str
    place: Place
    rows: Tensor
    cols: Tensor
    strength: Tensor
    copies: Tensor  # which copy each edited token belongs to
    keys: tuple[str, ...] = ()
    which: Tensor | None = None
    sources: tuple[Tensor, Tensor] | None = None
    read: Place | None = None
    heads: Tensor | None = None  # [edit], at sites by head
    units: Tensor | None = None  # [unit] edited together: neurons, or heads in which edges are cut; None: all of them
    attended: Tensor | None = None  # [edit] of edges: the column of the token that is attended to
    seeds: Tensor | None = None  # [edit] of noise: the edit's part of its seed
    queries: Tensor | None = None  # [edit] of noise: the prompt, counted from the batch's first one


@dataclass
class Capture:
    """States to bring home: the mean over the tokens (rows, cols) of each group, at some blocks.

    group [token] says which group a token belongs to; the result is [group, layer, d_model]. edited: as the edits of
    the place leave them, else as they find them.
    """

    site: str
    layers: tuple[int, ...]
    rows: Tensor
    cols: Tensor
    group: Tensor
    groups: int
    edited: bool = False


@dataclass
class TensorJoin:
    """``plan.layout.Join`` as tensors: columns up to ``stop``, the new ones from ``source`` [batch, new]."""

    stop: int
    source: Tensor


@dataclass
class Top:
    """``plan.layout.TopReads`` as tensors."""

    count: int
    every: int
    reads: Tensor
    prompts: Tensor


@dataclass
class Batch:
    """Everything one forward pass needs, but for the operands."""

    tokens: Tensor  # [batch, seq]; where there are ``embeds``, nothing but places in a table of inputs
    positions: Tensor
    segments: Tensor
    homes: Tensor
    starts: Tensor
    packed: bool
    first_width: int  # columns that enter at the first block
    copies: int  # 1 + the largest number of a copy among the edits
    joins: dict[int, TensorJoin] = field(default_factory=dict)  # block -> what enters at its input
    edits: list[EditGroup] = field(default_factory=list)
    captures: list[Capture] = field(default_factory=list)
    answers: Tensor | None = None  # [read] the answer that it is of
    right_for: Tensor | None = None  # [answer] what it is a right answer to, where something has several
    read_rows: Tensor | None = None  # [place] where next-token distributions are wanted, each once
    read_cols: Tensor | None = None
    reads: Tensor | None = None  # [read] index of its distribution among those places
    targets: Tensor | None = None  # [read]
    foils: Tensor | None = None
    clean: Tensor | None = None  # [read] index of its clean distribution among those places
    first: Tensor | None = None  # [1] place of its first prompt in its group
    top: Top | None = None  # reads of which the likeliest tokens are kept
    embeds: Tensor | None = None  # [batch, seq, d_model] what enters in place of the tokens' embeddings
    before: Tensor | None = None  # [batch, column] 1 where a cache that it goes on from holds a token, 0: padding

    def token_layers(self, layers: int) -> int:
        """Tokens times the blocks that each goes through, padding left out."""
        entered, late = self.first_width, 0
        for layer, join in sorted(self.joins.items()):
            late += layer * int((self.segments[:, entered : join.stop] != PAD).sum())
            entered = join.stop
        return int((self.segments != PAD).sum()) * layers - late


def put(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.long)


def on_device(value: Any, device: torch.device) -> Any:
    """A batch, or any part of one, with its tensors there."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: on_device(getattr(value, f.name), device) for f in fields(value)})
    if isinstance(value, dict):
        return {key: on_device(each, device) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([on_device(each, device) for each in value])
    return value


def make_batch(layout: Layout, captures: Sequence[Capture] = ()) -> Batch:
    """The layout's tensors, its edits grouped by (order, layer, site, op, operand, neurons or heads)."""
    batch = Batch(
        put(layout.tokens), put(layout.positions), put(layout.segments), put(layout.homes), put(layout.starts),
        layout.packed, layout.first_width, 1 + max((span.copy for span in layout.edits), default=-1),
        joins={j.layer: TensorJoin(j.stop, put(j.source)) for j in layout.joins},
        edits=_edit_groups(layout.edits), captures=list(captures), first=put([layout.first]),
    )  # fmt: skip
    reads = layout.reads
    if len(reads):
        # copies that differ in whose answer is asked for measure one distribution, and the clean one is copy 0's
        rows, cols = np.r_[reads.row, reads.clean_row], np.r_[reads.col, reads.clean_col]
        _, first, place = np.unique(rows * layout.tokens.shape[1] + cols, return_index=True, return_inverse=True)
        order = np.argsort(first)  # places as the reads meet them
        number = np.argsort(order)[place]
        batch.answers = put(reads.prompt)
        batch.read_rows, batch.read_cols = put(rows[first[order]]), put(cols[first[order]])
        batch.targets, batch.foils = put(reads.target), put(reads.foil)
        batch.reads, batch.clean = put(number[: len(reads)]), put(number[len(reads) :])
    if layout.top is not None:
        batch.top = Top(layout.top.count, layout.top.every, put(layout.top.reads), put(layout.top.prompts))
    return batch


def _edit_groups(spans: Sequence[EditSpan]) -> list[EditGroup]:
    """In the order in which a forward pass meets them: place, order within a copy."""
    grouped: dict[tuple[Place, int, str, str, Place, tuple[int, ...]], list[EditSpan]] = {}
    for span in spans:
        edit = span.edit
        # a subspace and features are one call each; vectors, and states of other runs, are stacked whichever they are
        if edit.operand.startswith(STATE):
            shared = STATE + edit.subspace
        else:
            shared = edit.operand if OPS.get(edit.op, "op").operand in ("subspace", "features") else ""
        place = place_of(edit.layer, edit.site)
        read = place_of(edit.read.layer, edit.read.site) if edit.read else place
        read = place_of(edit.layer, "v") if edit.site == PATTERN else read  # what the weights are of
        units = edit.neurons or edit.heads
        grouped.setdefault((place, span.order, edit.op, shared, read, units), []).append(span)
    ordered = sorted(grouped.items(), key=lambda entry: entry[0])
    tokens = _tokens_of([span for _, members in ordered for span in members])
    ends = np.cumsum([0, *(sum(len(span.rows) for span in members) for _, members in ordered)]).tolist()
    return [
        _group(place, op, shared, read, members, {name: each[start:stop] for name, each in tokens.items()})
        for ((place, _, op, shared, read, _), members), start, stop in zip(ordered, ends, ends[1:], strict=False)
    ]


def _tokens_of(spans: Sequence[EditSpan]) -> dict[str, Tensor]:
    """Arrays [token] of all spans, one behind the other: made at once, as there may be thousands of groups."""
    names = ("rows", "cols", "source_rows", "source_cols", "prompts") if spans else ()
    arrays = {name: put(np.concatenate([getattr(span, name) for span in spans])) for name in names}
    sizes = [len(span.rows) for span in spans]
    strength = torch.as_tensor(np.repeat([span.edit.strength for span in spans], sizes)).float()[:, None]
    return arrays | {"copies": put(np.repeat([span.copy for span in spans], sizes)), "strength": strength}


def _group(
    place: Place, op: str, shared: str, read: Place, members: list[EditSpan], tokens: Mapping[str, Tensor]
) -> EditGroup:
    """tokens: as of ``_tokens_of``, of the members."""
    group = EditGroup(op, place, tokens["rows"], tokens["cols"], tokens["strength"], tokens["copies"])

    def each(values: Sequence[float]) -> Tensor:
        return torch.as_tensor(np.repeat(values, [len(span.rows) for span in members]))

    edit = members[0].edit
    if edit.site in HEADED:
        group.heads = each([span.edit.head for span in members])
    if edit.neurons or edit.heads:
        group.units = put(edit.neurons or edit.heads)
    if edit.origin:
        group.attended = tokens["source_cols"]
    if edit.seed >= 0:
        group.seeds, group.queries = each([span.edit.seed for span in members]), tokens["prompts"]
    if shared.startswith(STATE):
        group.sources = tokens["source_rows"], tokens["source_cols"]
        group.read = read if read != place else None
        group.keys = (edit.subspace,) if edit.subspace else ()
    elif shared:
        group.keys = (shared,)
    elif edit.operand:  # a vector, or a state that is known
        place_of_key = {key: i for i, key in enumerate(dict.fromkeys(span.edit.operand for span in members))}
        group.keys = tuple(place_of_key)
        group.which = each([place_of_key[span.edit.operand] for span in members])
    return group
