"""A layout as tensors of small integers: what one forward pass is fed, what it edits, reads and captures.

Nothing here depends on a model or a device, so a batch can be sent to where the model is (``record``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.edit_groups import EditGroup, edit_groups
from patchboard.plan.layout import PAD, Layout


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
    copies: int  # 1 + the largest number of a copy that has edits
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
    queries: Tensor | None = None  # [prompt] place of each in its group
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
    """The layout's tensors."""
    batch = Batch(
        put(layout.tokens), put(layout.positions), put(layout.segments), put(layout.homes), put(layout.starts),
        layout.packed, layout.first_width, 1 + layout.edits.edits.highest,
        joins={j.layer: TensorJoin(j.stop, put(j.source)) for j in layout.joins},
        edits=edit_groups(layout.edits), captures=list(captures)
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
    if layout.queries is not None:
        batch.queries = put(layout.queries)
    if layout.top is not None:
        batch.top = Top(layout.top.count, layout.top.every, put(layout.top.reads), put(layout.top.prompts))
    return batch
