"""States that an edit takes from a place which its pass meets too late: read in a pass of their own before it.

Such states are those of unedited runs, which the batch holds: these alone are run first. Travels to a server as source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.record import Record
from patchboard.engine.sites import layer_and_site
from patchboard.plan.layout import PAD, ROOT

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch, EditGroup


def is_later(group: EditGroup) -> bool:
    """Whether the states that these edits put in are computed only behind the place where they are put."""
    return group.read is not None and group.read > group.place


def later_states(
    forward: Callable[[Any, dict[str, Any]], dict[str, Any]], runs: Any, groups: list[EditGroup], head_dim: int
) -> dict[int, Tensor]:
    """By ``id`` of each of these edit groups, all of them later ones, the states [edit, width] that it puts in.

    forward: ``traced_forward`` of a batch with operands. runs: as ``unedited_runs`` gives them.
    """
    held = {}
    for group, capture, (found,) in zip(groups, runs.captures, forward(runs, {})["states"], strict=True):
        states = found[capture.token]
        if group.units is not None:
            states = states[:, group.units.to(states.device)]
        elif group.heads is not None:
            edit = torch.arange(len(states), device=states.device)
            states = states.unflatten(-1, (-1, head_dim))[edit, group.heads.to(states.device)]
        held[id(group)] = states
    return held


def unedited_runs(batch: Batch) -> Any | None:
    """The runs of the batch in which later states are read, as a batch; None where none are.

    One capture for each later edit group, whose groups are of one token each; ``token`` [edit] says which one.
    """
    later = [group for group in batch.edits if is_later(group)]
    if not later:
        return None
    runs, where = runs_read_by(batch, later)
    for group, (rows, cols) in zip(later, where, strict=True):
        layer, site = layer_and_site(group.read)  # pyright: ignore[reportArgumentType]
        each, token = torch.stack([rows, cols]).unique(dim=1, return_inverse=True)
        count = each.shape[1]
        runs.captures.append(
            Record(
                site=site, layers=(layer,), rows=each[0], cols=each[1], groups=count,
                group=torch.arange(count, device=rows.device), token=token, edited=False,
            )
        )  # fmt: skip
    return runs


def runs_read_by(batch: Batch, groups: list[EditGroup]) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    """The unedited runs in which the sources of these edit groups stand, as a batch, and of each group where in it
    they do: (rows [edit], cols [edit])."""
    rows = torch.cat([group.sources[0] for group in groups if group.sources is not None])
    cols = torch.cat([group.sources[1] for group in groups if group.sources is not None])
    chosen, row = rows.unique(return_inverse=True)
    segments = batch.segments[chosen]
    wanted = torch.zeros(len(chosen), int(segments.max()) + 1, dtype=torch.bool, device=rows.device)
    wanted[row, batch.segments[rows, cols]] = True
    wanted[:, ROOT] = True  # which the others of its row see
    kept = (segments != PAD) & wanted.gather(1, segments.clamp(min=0))
    width = int(kept.any(0).nonzero().max()) + 1
    assert width <= batch.first_width, "an unedited run enters at the first block"
    segments = segments.masked_fill(~kept, PAD)[:, :width]
    sizes = [len(group.rows) for group in groups]
    runs = Record(
        tokens=batch.tokens[chosen, :width], positions=batch.positions[chosen, :width], segments=segments,
        homes=batch.homes[chosen, :width], starts=batch.starts[chosen, :width],
        embeds=None if batch.embeds is None else batch.embeds[chosen, :width],
        packed=bool((segments > ROOT).any()), first_width=width, joins={}, edits=[], captures=[],
        read_rows=None, read_cols=None, before=None,
    )  # fmt: skip
    return runs, list(zip(row.split(sizes), cols.split(sizes), strict=True))


def tokens_of(runs: Any | None) -> int:
    """How many tokens the runs have, padding left out."""
    return 0 if runs is None else int((runs.segments != PAD).sum())
