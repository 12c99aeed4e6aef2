"""Edits of a layout as tensors: those that one call of one op serves stand together.

Which edits these are follows from the copies alone, and there may be thousands; so they are sorted once for all packs
of the same copies, and a pack's tokens follow in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.sites import Place, place_of
from patchboard.ops import OPS
from patchboard.plan.cells import STATE, Edit
from patchboard.plan.edit_table import CopyEdit, CopyEdits, EditTable
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


class _Call(NamedTuple):
    """What edits of one group have in common; sorted, groups stand as a forward pass meets them: place, order within a
    copy. shared: the one operand of all, where they are one call."""

    place: Place
    order: int
    op: str
    shared: str
    read: Place
    units: tuple[int, ...]


def _call_of(edit: Edit, order: int) -> _Call:
    # a subspace and features are one call each; vectors, and states of other runs, are stacked whichever they are
    if edit.operand.startswith(STATE):
        shared = STATE + edit.subspace
    else:
        shared = edit.operand if OPS.get(edit.op, "op").operand in ("subspace", "features") else ""
    place = place_of(edit.layer, edit.site)
    read = place_of(edit.read.layer, edit.read.site) if edit.read else place
    read = place_of(edit.layer, "v") if edit.site == PATTERN else read  # what the weights are of
    return _Call(place, order, edit.op, shared, read, edit.neurons or edit.heads)


@dataclass(frozen=True)
class _Grouping:
    """How copies' edits are grouped.

    calls, first [group]: of its edits, and one of them; operands [group]: those of a group that stacks them. group,
    which, copy, head, seed, strength [edit]: its group, its operand's place among the group's, and its own numbers.
    """

    calls: Sequence[_Call]
    first: Sequence[Edit]
    operands: Sequence[tuple[str, ...]]
    group: np.ndarray
    which: np.ndarray
    copy: np.ndarray
    head: np.ndarray
    seed: np.ndarray
    strength: np.ndarray


@lru_cache(maxsize=4)
def _grouping(edits: CopyEdits) -> _Grouping:
    calls = [_call_of(one.edit, one.order) for one in edits.each]
    ordered = sorted(dict.fromkeys(calls))
    number = {call: i for i, call in enumerate(ordered)}
    first: dict[int, Edit] = {}
    operands: list[dict[str, int]] = [{} for _ in ordered]
    group, which = [], []
    for one, call in zip(edits.each, calls, strict=True):
        group.append(number[call])
        first.setdefault(group[-1], one.edit)
        known = operands[group[-1]]
        which.append(known.setdefault(one.edit.operand, len(known)))

    def each(value: Callable[[CopyEdit], float], kind: type = int) -> np.ndarray:
        return np.array([value(one) for one in edits.each], dtype=kind)

    return _Grouping(
        ordered, [first[i] for i in range(len(ordered))], [tuple(known) for known in operands],
        np.array(group, dtype=int), np.array(which, dtype=int), each(lambda one: one.copy),
        each(lambda one: one.edit.head), each(lambda one: one.edit.seed), each(lambda one: one.edit.strength, float),
    )  # fmt: skip


def edit_groups(table: EditTable) -> list[EditGroup]:
    """In the order in which a forward pass meets them."""
    of = _grouping(table.edits)
    group = of.group[table.tokens[0]]
    tokens = table.tokens[:, np.argsort(group, kind="stable")]
    edit = tokens[0]
    sizes = np.bincount(group, minlength=len(of.calls)).tolist()

    def split(values: np.ndarray) -> Sequence[Tensor]:
        return torch.as_tensor(values).split(sizes)

    rows, cols, source_rows, source_cols, prompts = map(split, tokens[1:])
    which, copies, heads, seeds = (split(each[edit]) for each in (of.which, of.copy, of.head, of.seed))
    strength = split(of.strength[edit].astype(np.float32)[:, None])
    groups = []
    for i, (call, first) in enumerate(zip(of.calls, of.first, strict=True)):
        if not sizes[i]:
            continue
        made = EditGroup(call.op, call.place, rows[i], cols[i], strength[i], copies[i])
        if first.site in HEADED:
            made.heads = heads[i]
        if call.units:
            made.units = torch.tensor(call.units)
        if first.origin:
            made.attended = source_cols[i]
        if first.seed >= 0:
            made.seeds, made.queries = seeds[i], prompts[i]
        if call.shared.startswith(STATE):
            made.sources = source_rows[i], source_cols[i]
            made.read = call.read if call.read != call.place else None
            made.keys = (first.subspace,) if first.subspace else ()
        elif call.shared:
            made.keys = (call.shared,)
        elif first.operand:  # vectors, or states that are known: of those of all copies, some
            present, made.which = torch.unique(which[i], return_inverse=True)
            made.keys = tuple(of.operands[i][p] for p in present.tolist())
        groups.append(made)
    return groups
