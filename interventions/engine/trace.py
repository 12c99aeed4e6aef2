"""A forward pass of a batch in one trace: what is edited, captured and scored on the way, block by block.

Functions here travel to a server as source and run there: they name torch, each other, and what they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.cutting import without_edges
from patchboard.engine.families import at_path
from patchboard.engine.joining import grown_inputs, narrowed
from patchboard.engine.later import is_later, later_states, unedited_runs
from patchboard.engine.masks import mask_argument
from patchboard.engine.noise import seeds_of
from patchboard.engine.pattern import is_pattern, mixed_values, weights_read
from patchboard.engine.read_out import logits_behind, read_logits, read_states
from patchboard.engine.sites import Place, is_input, place_of, site_of
from patchboard.engine.states import apply_edits, captured, copy_input, source_states, states_at

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch
    from patchboard.engine.block_sparse import BlockSparse
    from patchboard.engine.wiring import Functions, Wiring


def traced_forward(
    model: Any, wiring: Wiring, batch: Batch, operands: Mapping[str, Any], scorers: Functions, ops: Functions,
    cache: Mapping[str, Any] | None = None, graded: bool = False, sparse: BlockSparse | None = None,
    streamed: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """One forward pass through nnsight: edits made, captures taken, reads scored; and before it those of the runs
    whose states are edited in before they are computed (``later``), or whose attention weights are (``pattern``).

    model: an nnsight TransformersModel, the batch on its (first) device. cache: of the sequences that the batch goes on
    from, by the name that the model's forward has for it; it grows by the batch. graded: the scores have a graph that
    leads back to operands which require gradients. Returns plain tensors: ``scores`` metric -> [read], ``states`` one
    list of [group, d_model] by layer a capture, ``moved`` one [edit] an edit group, in the order of the visits; ``top``
    as ``top_tokens`` gives it, where the batch asks for it.

    What is assigned to a module is sent to it at that moment where the model runs in another process than this
    code (NDIF's sandbox), so it is edited before; what is read may be edited in place until the next access.
    """
    decoder = at_path(model, wiring.architecture.decoder)
    head = at_path(model, wiring.architecture.head)
    stages = [*at_path(decoder, wiring.architecture.blocks), at_path(decoder, wiring.architecture.norm)]
    cut = any([group.attended is not None for group in batch.edits])
    mask = mask_argument(batch, wiring, sparse) if batch.packed or cut else None
    visits = visits_of(batch, len(stages))
    width = batch.first_width
    real = (batch.segments[:, :width] >= 0).long()
    if batch.before is not None:
        real = torch.cat([batch.before, real], 1)
    inputs = {"position_ids": batch.positions[:, :width], "attention_mask": real}
    if batch.embeds is None:
        inputs["input_ids"] = batch.tokens[:, :width]
    else:
        inputs["inputs_embeds"] = batch.embeds[:, :width]
    read_rows, read_cols = batch.read_rows, batch.read_cols
    known: dict[int, Tensor] = {id(group): seeds_of(group, batch) for group in batch.edits if group.seeds is not None}
    first = lambda some, given: traced_forward(model, wiring, some, given, {}, ops)  # noqa: E731
    runs = unedited_runs(batch)
    if runs is not None:
        later = [group for group in batch.edits if is_later(group)]
        known.update(later_states(first, runs, later, wiring.head_dim))
    known.update(weights_read(first, batch, wiring))
    traced = model.trace(inputs, use_cache=cache is not None, logits_to_keep=1, **(cache or {}))
    mode = torch.set_grad_enabled(graded) if sparse is None else sparse.registered(model)
    with mode, traced:
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
                        if not batch.captures[i].edited:
                            result["states"][i].append(captured(args[0], batch.captures[i]))
                    for reader in readers:
                        held[id(reader)] = source_states(reader, args[0], None)
                    of_states = [group for group in groups if group.attended is None]
                    result["moved"].extend(apply_edits(args[0], of_states, operands, ops, held))
                    for i in captures:
                        if batch.captures[i].edited:
                            result["states"][i].append(captured(args[0], batch.captures[i]))
                if edges:
                    args, kwargs, opened = without_edges(args, kwargs, edges, wiring.heads, ops)
                    result["moved"].extend(opened)
                if grown or edges:
                    module.inputs = (args, kwargs)
            for place, groups, captures, readers in inside:
                if graded and groups:
                    copy_input(module, site_of(place), wiring)
                h, slots = states_at(module, place, wiring, len(batch.tokens))
                for i in captures:
                    if not batch.captures[i].edited:
                        result["states"][i].append(captured(h, batch.captures[i], slots))
                for reader in readers:
                    if not is_pattern(reader):
                        held[id(reader)] = source_states(reader, h, slots)
                result["moved"].extend(apply_edits(h, groups, operands, ops, held, slots))
                for i in captures:
                    if batch.captures[i].edited:
                        result["states"][i].append(captured(h, batch.captures[i], slots))
                for reader in readers:
                    if is_pattern(reader):  # its values are the run's own, with all edits of these
                        held[id(reader)] = mixed_values(reader, held[id(reader)], h, slots, batch, wiring.heads)
        if read_rows is not None and read_cols is not None:
            final = stages[-1].output
            if batch.joins:  # some decoders hold the final norm's output to their own input's length
                stages[-1].output = final[:, :width]
            # where the residual stream is float32 (Mamba-2), the model casts before its head
            states = final[read_rows.to(final.device), read_cols.to(final.device)].to(wiring.dtype)
            if streamed:
                read_out = lambda some: logits_behind(head(some), wiring.tail)  # noqa: E731
                result.update(read_states(states, read_out, wiring.vocab, batch, scorers))
            else:
                head.input = states[None]
                result.update(read_logits(model.output.logits[0], batch, scorers))
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
