"""All that happens inside a trace: masks, edits, captures and scores, on plain tensors.

Functions here travel to a server as source and run there: they name torch, each other, and what they are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.cutting import without_edges
from patchboard.engine.families import Architecture, at_path
from patchboard.engine.joining import grown_inputs, narrowed
from patchboard.engine.later import is_later, later_states, unedited_runs
from patchboard.engine.noise import UNIT, seeds_of, standard_normal
from patchboard.engine.sites import MODULES, Place, is_input, place_of, site_of
from patchboard.plan.layout import ROOT

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch, Capture, EditGroup

Functions = Mapping[str, Callable[..., Any]]

_SCORED_AT_ONCE = 1 << 24
"""Logits (read x vocab) scored together: the scores need a few more arrays of that size."""
_WORTH_A_CALL = 1 << 20
"""Logits from which on it costs less to score them in a call of their own than to copy them."""


class Wiring:
    """What the trace code must know of a model: where its parts are, its window, its heads and neurons, its dtype.

    slots: of each site by head, which piece of ``head_dim`` numbers is each head's (``parts.slots_of``).
    """

    def __init__(
        self, architecture: Architecture, window: int, slots: Mapping[str, Sequence[int]], head_dim: int, neurons: int,
        dtype: torch.dtype,
    ):  # fmt: skip
        self.architecture, self.window, self.dtype = architecture, window, dtype
        self.slots, self.head_dim, self.neurons = slots, head_dim, neurons
        self.heads = len(slots["head"]) if slots else 0


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


def mask_argument(batch: Batch, wiring: Wiring) -> Any:
    """The mask in the form that the family's decoder takes: a tensor, or one a kind of attention."""

    def mask(window: int) -> Tensor:
        return packed_mask(batch.segments, batch.homes, batch.positions, batch.starts, wiring.dtype, window)

    form, window = wiring.architecture.mask, wiring.window
    if form != "by_type":
        return mask(window if form == "window" else 0)
    by_type = {"full_attention": mask(0)}
    if window:
        by_type["sliding_attention"] = mask(window)
    return by_type


def tensor_at(module: Any, site: str, wiring: Wiring) -> Tensor:
    """The live tensor of a block that holds the states of a site inside it, as the model has it."""
    field, end = MODULES[site]
    part = at_path(module, getattr(wiring.architecture, field))
    value = part.input if end == "input" else part.output
    # by version of transformers, an attention's output is a tensor or begins with one
    return value[0] if isinstance(value, tuple) else value


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
    """[edit, width] float32, the states of h that these edits put in."""
    assert g.sources is not None
    rows, cols = g.sources
    return h[part_of(g, rows.to(h.device), cols.to(h.device), slots)].float()


def operand_of(
    g: EditGroup, h: Tensor, slots: Tensor | None, operands: Mapping[str, Any], held: Mapping[int, Tensor]
) -> Any:
    """What the op of these edits is given: states of h or of an earlier place, noise, a subspace, vectors [edit,
    width], or None. held: by ``id`` of an edit group, the states that it takes from an earlier place, or its seeds."""
    if g.seeds is not None:
        width = h.shape[-1] if g.units is None else len(g.units)
        return (standard_normal(held[id(g)], width) * operands[UNIT].cpu()).to(h.device)
    if g.sources:
        return source_states(g, h, slots) if g.read is None else held[id(g)].to(h.device)
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


def score_reads(logits: Tensor, batch: Batch, scorers: Functions) -> dict[str, Tensor]:
    """logits [place, vocab] -> metric -> [read], float32, in slices of bounded size."""
    assert batch.reads is not None and batch.clean is not None and batch.targets is not None and batch.foils is not None
    where = [index.to(logits.device) for index in (batch.reads, batch.targets, batch.foils, batch.clean)]
    parts: dict[str, list[Tensor]] = {name: [] for name in scorers}
    pieces = scored_together(batch.reads.cpu(), batch.clean.cpu(), logits.shape[-1])
    for piece in pieces:
        reads, targets, foils, clean = (index[piece.to(index.device)] for index in where)
        args = (rows_of(logits, reads), targets, foils, rows_of(logits, clean))
        with torch.autocast(logits.device.type, enabled=False):
            for name, score in scorers.items():
                parts[name].append(score(*args))
    back = torch.cat(pieces).argsort().to(logits.device)
    return {name: torch.cat(scores)[back] for name, scores in parts.items()}


def scored_together(reads: Tensor, clean: Tensor, vocab: int) -> list[Tensor]:
    """Indices of reads that are scored in one call: first those of places that no earlier read is of, which follow
    each other, then the others. Where many follow each other that share a clean distribution, no more than these, so
    that no copies of it are made."""
    step = max(1, _SCORED_AT_ONCE // vocab)
    anew = torch.ones(len(reads), dtype=torch.bool)
    anew[1:] = reads[1:] > reads.cummax(0).values[:-1]
    pieces = []
    for some in (anew.nonzero()[:, 0], (~anew).nonzero()[:, 0]):
        runs = clean[some].unique_consecutive(return_counts=True)[1].tolist()
        if len(some) * vocab < len(runs) * _WORTH_A_CALL:
            runs = [len(some)]
        pieces += [part for run in some.split(runs) for part in run.split(step)]
    return [piece for piece in pieces if len(piece)]


def rows_of(logits: Tensor, index: Tensor) -> Tensor:
    """The rows as float32 [index, vocab], without a copy of them where they follow each other or are all one."""
    steps = index.diff().unique().tolist()
    if steps == [1]:
        return logits[index[0] : index[0] + len(index)].float()
    if steps == [0]:
        return logits[index[0]].float().expand(len(index), -1)
    return logits[index].float()


def traced_forward(
    model: Any, wiring: Wiring, batch: Batch, operands: Mapping[str, Any], scorers: Functions, ops: Functions
) -> dict[str, Any]:
    """One forward pass through nnsight: edits made, captures taken, reads scored; and one before it of the runs whose
    states are edited in before they are computed (``later``).

    model: an nnsight TransformersModel, the batch on its (first) device. Returns plain tensors: ``scores``
    metric -> [read], ``states`` one list of [group, d_model] by layer a capture, ``moved`` one [edit] an
    edit group, in the order of the visits.

    What is assigned to a module is sent to it at that moment where the model runs in another process than this
    code (NDIF's sandbox), so it is edited before; what is read may be edited in place until the next access.
    """
    decoder = at_path(model, wiring.architecture.decoder)
    head = at_path(model, wiring.architecture.head)
    stages = [*at_path(decoder, wiring.architecture.blocks), at_path(decoder, wiring.architecture.norm)]
    cut = any([group.attended is not None for group in batch.edits])
    mask = mask_argument(batch, wiring) if batch.packed or cut else None
    visits = visits_of(batch, len(stages))
    width = batch.first_width
    real = (batch.segments[:, :width] >= 0).long()
    inputs = {"position_ids": batch.positions[:, :width], "attention_mask": real}
    if batch.embeds is None:
        inputs["input_ids"] = batch.tokens[:, :width]
    else:
        inputs["inputs_embeds"] = batch.embeds[:, :width]
    read_rows, read_cols = batch.read_rows, batch.read_cols
    known: dict[int, Tensor] = {id(group): seeds_of(group, batch) for group in batch.edits if group.seeds is not None}
    runs = unedited_runs(batch)
    if runs is not None:
        later = [group for group in batch.edits if is_later(group)]
        first = lambda some: traced_forward(model, wiring, some, {}, {}, ops)  # noqa: E731
        known.update(later_states(first, runs, later, wiring.head_dim))
    with torch.no_grad(), model.trace(inputs, use_cache=False, logits_to_keep=1):
        held = {**known}
        result = {"moved": [], "states": [[] for _ in batch.captures], "scores": {}}
        result.save()  # pyright: ignore[reportAttributeAccessIssue]  # nnsight's, on every object
        if mask is not None:
            args, kwargs = decoder.inputs
            decoder.inputs = (args, {**kwargs, "attention_mask": narrowed(mask, width)})
        for stage, at_input, inside in visits:
            module = stages[stage]
            grown = bool(batch.joins) and stage >= min(batch.joins)
            edges = [group for groups, _, _ in at_input for group in groups if group.attended is not None]
            if grown or at_input:
                args, kwargs = module.inputs if grown or edges else ((module.input,), {})
                if grown:
                    args, kwargs = grown_inputs((args, kwargs), stage, batch, mask)
                for groups, captures, readers in at_input:
                    for i in captures:
                        result["states"][i].append(captured(args[0], batch.captures[i]))
                    for reader in readers:
                        held[id(reader)] = source_states(reader, args[0], None)
                    of_states = [group for group in groups if group.attended is None]
                    result["moved"].extend(apply_edits(args[0], of_states, operands, ops, held))
                if edges:
                    args, kwargs, opened = without_edges(args, kwargs, edges, wiring.heads, ops)
                    result["moved"].extend(opened)
                if grown or edges:
                    module.inputs = (args, kwargs)
            for place, groups, captures, readers in inside:
                h, slots = states_at(module, place, wiring, len(batch.tokens))
                for i in captures:
                    result["states"][i].append(captured(h, batch.captures[i], slots))
                for reader in readers:
                    held[id(reader)] = source_states(reader, h, slots)
                result["moved"].extend(apply_edits(h, groups, operands, ops, held, slots))
        if read_rows is not None and read_cols is not None:
            final = stages[-1].output
            if batch.joins:  # some decoders hold the final norm's output to their own input's length
                stages[-1].output = final[:, :width]
            # where the residual stream is float32 (Mamba-2), the model casts before its head
            head.input = final[read_rows.to(final.device), read_cols.to(final.device)][None].to(wiring.dtype)
            result["scores"] = score_reads(model.output.logits[0], batch, scorers)
    return result


Work = tuple[list, list[int], list]
"""Edit groups, indices of captures, and edit groups of later places that read their states here."""


def visits_of(batch: Batch, stages: int) -> list[tuple[int, list[Work], list[tuple]]]:
    """(block, work at its input, (place, *work) inside it) in the order of the forward pass; the last block
    stands for the final norm.

    Blocks that run over a sequence which others joined are visited even if nothing is to be done there.
    """
    places: dict[Place, Work] = {}
    for group in batch.edits:
        places.setdefault(group.place, ([], [], []))[0].append(group)
        if group.read is not None and not is_later(group):
            places.setdefault(group.read, ([], [], []))[2].append(group)
    for i, capture in enumerate(batch.captures):
        for layer in capture.layers:
            places.setdefault(place_of(layer, capture.site), ([], [], []))[1].append(i)
    joined = range(min(batch.joins, default=stages), stages)
    blocks = sorted({*joined, *(block for block, _ in places)})
    return [
        (
            block,
            [places[place] for place in sorted(places) if place[0] == block and is_input(place)],
            [(place, *places[place]) for place in sorted(places) if place[0] == block and not is_input(place)],
        )
        for block in blocks
    ]
