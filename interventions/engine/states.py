"""States in a trace: where they are, what edits make of them, what is brought home. Travels to a server as source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.families import at_path
from patchboard.engine.noise import UNIT, standard_normal
from patchboard.engine.sites import MODULES, Place, site_of

if TYPE_CHECKING:
    from patchboard.engine.batch import Capture, EditGroup
    from patchboard.engine.wiring import Functions, Wiring


def tensor_at(module: Any, site: str, wiring: Wiring) -> Tensor:
    """The live tensor of a block that holds the states of a site inside it, as the model has it."""
    field, end = MODULES[site]
    part = at_path(module, getattr(wiring.architecture, field))
    value = part.input if end == "input" else part.output
    # by version of transformers, an attention's output is a tensor or begins with one
    return value[0] if isinstance(value, tuple) else value


def copy_input(module: Any, site: str, wiring: Wiring) -> None:
    """Give the part of a block that holds the site a copy of its input. What made it (attention, a ReLU) may need the
    tensor itself for its gradient, so where there are gradients, edits must not be made in it."""
    field, end = MODULES[site]
    if end == "input":
        part = at_path(module, getattr(wiring.architecture, field))
        part.input = part.input.clone()


def states_in(states: Tensor, site: str, wiring: Wiring, batch: int) -> tuple[Tensor, Tensor | None]:
    """What of such a tensor, or of its gradient, is the site's: as ``states_at`` gives it."""
    if states.dim() == 2:
        states = states.unflatten(0, (batch, -1))  # OPT's MLP has all tokens in one row
    if site == "mlp_pre":
        return states[..., : wiring.neurons], None
    if site not in wiring.slots:
        return states, None
    slots = torch.tensor(wiring.slots[site], device=states.device)
    return states.unflatten(-1, (-1, wiring.head_dim)), slots


def states_at(module: Any, place: Place, wiring: Wiring, batch: int) -> tuple[Tensor, Tensor | None]:
    """The live hidden states inside a block [batch, seq, width], and None; at sites by head
    [batch, seq, slot, head_dim], and the slot of each head. batch: how many sequences there are."""
    site = site_of(place)
    return states_in(tensor_at(module, site, wiring), site, wiring, batch)


def part_of(g: EditGroup, rows: Tensor, cols: Tensor, slots: Tensor | None) -> tuple:
    """The index into states [batch, seq, (slot,) width] of what is edited at these tokens: [edit, width]."""
    if g.units is not None:
        return rows[:, None], cols[:, None], g.units.to(cols.device)
    return (rows, cols) if g.heads is None or slots is None else (rows, cols, slots[g.heads.to(cols.device)])


def source_states(g: EditGroup, h: Tensor, slots: Tensor | None) -> Tensor:
    """[edit, width] float32, the states of h that these edits put in, cut from a graph: where there is one
    (``learning``), they are of unedited runs, and on no operand's way."""
    assert g.sources is not None
    rows, cols = g.sources
    return h[part_of(g, rows.to(h.device), cols.to(h.device), slots)].float().detach()


def operand_of(
    g: EditGroup, h: Tensor, slots: Tensor | None, operands: Mapping[str, Any], held: Mapping[int, Tensor]
) -> Any:
    """What the op of these edits is given: states of h or of an earlier place, perhaps with the subspace that is meant,
    noise, a subspace, features, vectors [edit, width], or None. held: by ``id`` of an edit group, the states that it
    takes from an earlier place, or its seeds."""
    if g.seeds is not None:
        width = h.shape[-1] if g.units is None else len(g.units)
        return (standard_normal(held[id(g)], width) * operands[UNIT].cpu()).to(h.device)
    if g.sources:
        states = source_states(g, h, slots) if g.read is None else held[id(g)].to(h.device)
        return (operands[g.keys[0]].to(h.device), states) if g.keys else states
    if not g.keys:
        return None
    if g.which is None:
        return operands[g.keys[0]].to(h.device)
    return torch.stack([operands[key] for key in g.keys]).to(h.device)[g.which.to(h.device)]


def apply_edits(
    h: Tensor, groups: list[EditGroup], operands: Mapping[str, Any], ops: Functions, held: Mapping[int, Tensor],
    slots: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    """Edit h [batch, seq, (slot,) width] in place; returns how far each edited token moved [edit] (max abs).

    Groups come in the order of the spec's edits, so that two edits of one token compose. In float32, outside of
    autocast, which a server may run under; blocks may lie on several devices. slots: of each head.
    """
    moved = []
    with torch.autocast(h.device.type, enabled=False):
        for g in groups:
            part = part_of(g, g.rows.to(h.device), g.cols.to(h.device), slots)
            before = h[part].float()
            after = ops[g.op](before, operand_of(g, h, slots, operands, held), g.strength.to(h.device))
            h[part] = after.to(h.dtype)
            moved.append((after - before).abs().amax(-1))
    return moved


def captured(h: Tensor, capture: Capture, slots: Tensor | None = None) -> Tensor:
    """Mean of h [batch, seq, (slot,) width] over each group's tokens: [group, width], float32, heads side by side in
    their order."""
    home = capture.rows.device
    states = h[capture.rows.to(h.device), capture.cols.to(h.device)].float()
    states = (states if slots is None else states[:, slots]).flatten(1).to(home)
    sums = torch.zeros(capture.groups, states.shape[-1], device=home)
    sums.index_add_(0, capture.group, states)
    return sums / torch.bincount(capture.group, minlength=capture.groups)[:, None]
