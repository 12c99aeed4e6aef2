"""Gradients of a metric with respect to states, and what edits of these states would then change, all in one trace.

Source: attribution patching, Nanda 2023; Syed et al. 2023, arXiv 2310.10348; the gradients of integrated_gradients are
taken as Hanna et al. 2024, arXiv 2403.17806 (EAP-IG) take them: at inputs between two prompts' embeddings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.families import at_path
from patchboard.engine.scores import score_reads
from patchboard.engine.sites import Place, is_input, site_of
from patchboard.engine.states import part_of, source_states, states_in, tensor_at

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch, EditGroup
    from patchboard.engine.wiring import Functions, Wiring


@dataclass
class Points:
    """Where gradients are taken: ``plan.screen_layout.ScreenLayout`` as tensors.

    of [row, steps]; ends [between, 3]; weights, shared [between]. starts [answer]: the read at which each begins.
    """

    of: Tensor
    ends: Tensor
    weights: Tensor
    shared: Tensor
    starts: Tensor


def entered(x: Tensor, points: Points) -> Tensor:
    """What enters the first block [row, seq, d_model], rows between two prompts put between their embeddings: a leaf,
    so that there is a graph whether or not the model's weights have gradients."""
    x = x.detach().clone()
    between, own, other = points.ends.to(x.device).T
    in_prompt = torch.arange(x.shape[1], device=x.device) < points.shared.to(x.device)[:, None]
    weights = (points.weights.to(x.device)[:, None] * in_prompt)[..., None].to(x.dtype)
    x[between] = x[own] + weights * (x[other] - x[own])
    return x.requires_grad_()


def summed(scores: Tensor, slope: Callable[..., Any], points: Points) -> Tensor:
    """A number whose gradient is that of every answer's metric. scores [read]; slope: as of ``metrics.base.Graded``.

    A score that is undefined (NaN) has none."""
    slopes = slope(scores.detach().double().cpu().numpy(), points.starts.cpu().numpy())
    return (scores * torch.from_numpy(slopes).to(scores)).nansum()


def states_of(g: EditGroup, h: Tensor, slots: Tensor | None) -> Tensor:
    """[edit, width] float32, the states that are edited. h, slots: as of ``states.apply_edits``.

    Taken while the pass is there: some models go on to add to the tensor that they give."""
    return h[part_of(g, g.rows.to(h.device), g.cols.to(h.device), slots)].float()


def changed(g: EditGroup, own: Tensor, given: Tensor, ops: Functions) -> Tensor:
    """[edit, width] float32, edited state - clean state, given that of the source."""
    return ops[g.op](own, given.to(own.device), g.strength.to(own.device)) - own


def estimated(g: EditGroup, change: Tensor, gradient: Tensor, slots: Tensor | None, points: Points) -> Tensor:
    """[edit] float32: change . gradient, this one the mean over the points of the edit's source."""
    assert g.sources is not None
    device = gradient.device
    total = torch.zeros(len(change), device=device)
    for rows in points.of[g.sources[0].to(points.of.device)].T.to(device):
        slope = gradient[part_of(g, rows, g.cols.to(device), slots)].float()
        total += (change.to(device) * slope).sum(-1)
    return total / points.of.shape[1]


def seen_at(place: Place, tensor: Tensor, wiring: Wiring, rows: int) -> tuple[Tensor, Tensor | None]:
    """States or gradients of a place, cut from the graph, as ``states.states_at`` gives states."""
    tensor = tensor.detach()
    return (tensor, None) if is_input(place) else states_in(tensor, site_of(place), wiring, rows)


def traced_attributions(
    model: Any, wiring: Wiring, batch: Batch, points: Points, score: Callable[..., Tensor], slope: Callable[..., Any],
    ops: Functions,
) -> dict[str, Any]:  # fmt: skip
    """One forward and one backward pass through nnsight, without any edit: ``estimates``, one [edit] an edit group, in
    the metric's unit, and ``scores`` [read], those of the points.

    model: as of ``traced_forward``. batch: of whole rows. score, slope: of the metric.

    ``torch.autograd.grad`` inside the trace and not nnsight's ``with loss.backward():``. The two give the same
    gradients; this one asks for any number of them in any order, and leaves none in the weights.
    """
    decoder = at_path(model, wiring.architecture.decoder)
    head = at_path(model, wiring.architecture.head)
    stages = [*at_path(decoder, wiring.architecture.blocks), at_path(decoder, wiring.architecture.norm)]
    edited = sorted({group.place for group in batch.edits})
    places = sorted({*edited, *(group.read for group in batch.edits if group.read is not None)})
    rows = len(batch.tokens)
    inputs = {"position_ids": batch.positions, "attention_mask": (batch.segments >= 0).long()}
    if batch.embeds is None:
        inputs["input_ids"] = batch.tokens
    else:
        inputs["inputs_embeds"] = batch.embeds
    read_rows, read_cols = batch.read_rows, batch.read_cols
    assert read_rows is not None and read_cols is not None
    with torch.enable_grad(), model.trace(inputs, use_cache=False, logits_to_keep=1):
        result = {"estimates": [], "scores": None}
        result.save()  # pyright: ignore[reportAttributeAccessIssue]  # nnsight's, on every object
        args, kwargs = stages[0].inputs
        first = entered(args[0], points)
        stages[0].inputs = ((first, *args[1:]), kwargs)
        live, own, given = {}, {}, {}
        for place in places:
            if place[0] == 0 and is_input(place):
                tensor = first
            elif is_input(place):
                tensor = stages[place[0]].input
            else:
                tensor = tensor_at(stages[place[0]], site_of(place), wiring)
            live[place] = tensor
            h, slots = seen_at(place, tensor, wiring, rows)
            for group in batch.edits:
                if group.place == place:
                    own[id(group)] = states_of(group, h, slots)
                if place == (group.place if group.read is None else group.read):
                    given[id(group)] = source_states(group, h, slots)
        final = stages[-1].output
        head.input = final[read_rows.to(final.device), read_cols.to(final.device)][None].to(wiring.dtype)
        scores = score_reads(model.output.logits[0], batch, {"metric": score})["metric"]
        found = torch.autograd.grad(summed(scores, slope, points), [live[place] for place in edited])
        gradients = dict(zip(edited, found, strict=True))
        for group in batch.edits:
            change = changed(group, own[id(group)], given[id(group)], ops)
            gradient, slots = seen_at(group.place, gradients[group.place], wiring, rows)
            result["estimates"].append(estimated(group, change, gradient, slots, points))
        result["scores"] = scores.detach()
    return result
