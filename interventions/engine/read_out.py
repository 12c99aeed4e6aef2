"""What is read of next-token distributions: scores, and the likeliest tokens. Travels to a server as source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from patchboard.engine.scores import score_reads
from patchboard.engine.top_tokens import top_tokens

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch
    from patchboard.engine.wiring import Functions

_READ_AT_ONCE = 1 << 24
"""Logits (place x vocab) that the head makes together."""


def read_logits(logits: Tensor, batch: Batch, scorers: Functions) -> dict[str, Any]:
    """logits [place, vocab] -> ``scores`` metric -> [read] and, where some are kept, ``top`` as of ``top_tokens``."""
    top = {} if batch.top is None else {"top": top_tokens(logits, batch)}
    return {"scores": score_reads(logits, batch, scorers), **top}


def read_states(
    states: Tensor, read_out: Callable[[Tensor], Tensor], vocab: int, batch: Batch, scorers: Functions
) -> dict[str, Any]:
    """``read_logits`` of the states [place, d_model] that the head is given, some at a time, so that no array of all
    places' logits is made. read_out: states [some, d_model] -> their logits [some, vocab]."""
    assert batch.reads is not None and batch.clean is not None and batch.targets is not None and batch.foils is not None
    step = max(1, _READ_AT_ONCE // vocab)
    chunk = batch.reads.cpu() // step
    pieces = [(chunk == number).nonzero()[:, 0] for number in range(int(chunk.max()) + 1)]
    kept, parts = _kept(batch), []
    of_kept = torch.zeros(0, dtype=torch.long) if kept is None else chunk[kept]
    for number, piece in enumerate(pieces):
        first, last = number * step, min((number + 1) * step, len(states))
        clean = batch.clean.cpu()[piece].unique()
        places = torch.cat([torch.arange(first, last), clean[(clean < first) | (clean >= last)]])
        where = torch.zeros(len(states), dtype=torch.long)
        where[places] = torch.arange(len(places))
        of = piece.to(batch.reads.device)
        some = replace(
            batch, reads=batch.reads[of] - first, clean=where.to(of.device)[batch.clean[of]], targets=batch.targets[of],
            foils=batch.foils[of],
        )  # fmt: skip
        if kept is not None and batch.top is not None:
            own = torch.searchsorted(piece, kept[of_kept == number]).to(of.device)
            some.top = replace(batch.top, every=1, reads=own, prompts=torch.zeros_like(own))
        parts.append(read_logits(read_out(states[places.to(states.device)]), some, scorers))
    orders = {"scores": torch.cat(pieces).argsort()}
    if kept is not None:
        orders["top"] = of_kept.argsort(stable=True).argsort()
    return {
        of: {name: torch.cat([part[of][name] for part in parts])[order.to(states.device)] for name in parts[0][of]}
        for of, order in orders.items()
    }


def _kept(batch: Batch) -> Tensor | None:
    """Indices of the reads of which the likeliest tokens are kept, on the CPU; None where there are none to keep."""
    if batch.top is None or batch.queries is None:
        return None
    queries = batch.queries[batch.top.prompts]
    return batch.top.reads[queries % batch.top.every == 0].cpu()


def logits_behind(logits: Tensor, tail: tuple[str, float]) -> Tensor:
    """What the model makes of its head's output [..., vocab]: ``Wiring.tail``."""
    kind, by = tail
    if kind == "softcap":
        return (logits / by).tanh() * by
    return logits * by if kind == "times" else logits / by if kind == "over" else logits
