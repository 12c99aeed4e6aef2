"""Scores of next-token distributions, in slices of bounded size. Travels to a server as source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from patchboard.engine.batch import Batch
    from patchboard.engine.wiring import Functions

_SCORED_AT_ONCE = 1 << 24
"""Logits (read x vocab) scored together: the scores need a few more arrays of that size."""
_WORTH_A_CALL = 1 << 20
"""Logits from which on it costs less to score them in a call of their own than to copy them."""


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
