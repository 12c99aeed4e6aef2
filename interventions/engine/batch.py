"""A layout as tensors: what one forward pass is fed, what it edits, reads and captures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interventions.engine.sites import HEAD, Place, place_of
from interventions.ops import OPS, SubspaceTensors
from interventions.plan.cells import STATE
from interventions.plan.layout import EditSpan, Layout


def _moved(value: Any, device: torch.device) -> Any:
    if type(value) is tuple:
        return tuple(_moved(one, device) for one in value)
    return value.to(device) if isinstance(value, Tensor | SubspaceTensors) else value


@dataclass
class EditGroup:
    """Edited tokens that one call of one op serves. rows, cols [edit]; strength [edit, 1].

    operand: vectors [edit, d_model], a subspace, None, or (for states of other runs) None with
    ``sources`` = (rows, cols) of the states to put there.
    """

    op: str
    place: Place
    rows: Tensor
    cols: Tensor
    strength: Tensor
    operand: Any
    copies: np.ndarray  # [edit] which copy each edited token belongs to
    sources: tuple[Tensor, Tensor] | None = None
    heads: Tensor | None = None  # [edit], at the head site

    def to(self, device: torch.device) -> EditGroup:
        """The same edits on the device of the block that they are made at."""
        if self.rows.device == device:
            return self
        moved = {name: _moved(value, device) for name, value in vars(self).items()}
        return EditGroup(**moved)


@dataclass
class Capture:
    """States to bring home: the mean over the tokens (rows, cols) of each group, at some blocks.

    group [token] says which group a token belongs to; the result is [group, layer, d_model].
    """

    site: str
    layers: tuple[int, ...]
    rows: Tensor
    cols: Tensor
    group: Tensor
    groups: int


@dataclass
class TensorJoin:
    """``plan.packing.Join`` on the device: columns up to ``stop``, the new ones from ``source`` [batch, new]."""

    stop: int
    source: Tensor


@dataclass
class Batch:
    """Everything one forward pass needs, on the model's device."""

    tokens: Tensor  # [batch, seq]
    positions: Tensor
    segments: Tensor
    homes: Tensor
    starts: Tensor
    packed: bool
    first_width: int  # columns that enter at the first block
    joins: dict[int, TensorJoin] = field(default_factory=dict)  # block -> what enters at its input
    edits: list[EditGroup] = field(default_factory=list)
    captures: list[Capture] = field(default_factory=list)
    read_rows: Tensor | None = None  # [read], then the clean distributions [clean]
    read_cols: Tensor | None = None
    targets: Tensor | None = None  # [read]
    foils: Tensor | None = None
    clean: Tensor | None = None  # [read] index of its clean distribution among all gathered


def make_batch(
    layout: Layout, operands: Mapping[str, Any], device: torch.device, captures: Sequence[Capture] = ()
) -> Batch:
    """The layout on the device, its edits grouped by (order, layer, site, op, operand)."""

    def put(values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=device)

    batch = Batch(
        put(layout.tokens), put(layout.positions), put(layout.segments), put(layout.homes), put(layout.starts),
        layout.packed, layout.first_width, {j.layer: TensorJoin(j.stop, put(j.source)) for j in layout.joins},
        edits=_edit_groups(layout.edits, operands, device), captures=list(captures),
    )  # fmt: skip
    reads = layout.reads
    if len(reads):
        cleans, which = np.unique(np.stack([reads.clean_row, reads.clean_col]), axis=1, return_inverse=True)
        batch.read_rows = put(np.concatenate([reads.row, cleans[0]]))
        batch.read_cols = put(np.concatenate([reads.col, cleans[1]]))
        batch.targets, batch.foils = put(reads.target), put(reads.foil)
        batch.clean = put(len(reads) + which.ravel())
    return batch


def _edit_groups(spans: Sequence[EditSpan], operands: Mapping[str, Any], device: torch.device) -> list[EditGroup]:
    """In the order in which a forward pass meets them: place, order within a copy."""
    grouped: dict[tuple[Place, int, str, str], list[EditSpan]] = {}
    for span in spans:
        edit = span.edit
        # a subspace is one call each; vectors, and states of other runs, are stacked whichever they are
        if edit.operand.startswith(STATE):
            shared = STATE
        else:
            shared = edit.operand if OPS.get(edit.op, "op").operand == "subspace" else ""
        grouped.setdefault((place_of(edit.layer, edit.site), span.order, edit.op, shared), []).append(span)
    return [
        _group(place, op, shared, members, operands, device)
        for (place, _, op, shared), members in sorted(grouped.items(), key=lambda entry: entry[0])
    ]


def _group(
    place: Place, op: str, shared: str, members: list[EditSpan], operands: Mapping[str, Any], device: torch.device
) -> EditGroup:
    sizes = [len(span.rows) for span in members]

    def put(name: str) -> Tensor:
        return torch.as_tensor(np.concatenate([getattr(span, name) for span in members]), device=device)

    def each(values: Sequence[float]) -> Tensor:
        return torch.as_tensor(np.repeat(values, sizes), device=device)

    group = EditGroup(
        op, place, put("rows"), put("cols"),
        strength=each([span.edit.strength for span in members]).float()[:, None],
        operand=None,
        copies=np.repeat([span.copy for span in members], sizes),
    )  # fmt: skip
    if place.rank == HEAD:
        group.heads = each([span.edit.head for span in members])
    if shared == STATE:
        group.sources = put("source_rows"), put("source_cols")
    elif shared:
        group.operand = operands[shared]
    elif OPS.get(op, "op").operand == "vector":
        keys = {key: i for i, key in enumerate(dict.fromkeys(span.edit.operand for span in members))}
        stacked = torch.stack([operands[key] for key in keys])
        group.operand = stacked[each([keys[span.edit.operand] for span in members]).to(stacked.device)]
    return group
