"""What a metric promises: one finite number a read token, whatever is scored beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.plugins.checks.promise import Promise
from patchboard.plugins.travel import check_travels

READS, VOCABULARY = 6, 11


def reads(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """logits [read, vocab], target [read], foil [read], clean [read, vocab]."""
    generator = torch.Generator().manual_seed(seed)
    logits, clean = (3 * torch.randn(READS, VOCABULARY, generator=generator) for _ in range(2))
    target = torch.randint(VOCABULARY, (READS,), generator=generator)
    return logits, target, (target + 1 + torch.arange(READS) % 3) % VOCABULARY, clean


def _unit(metric: Any) -> str:
    return "" if isinstance(metric.unit, str) and metric.unit.strip() else f"its unit is {metric.unit!r}"


def _form(metric: Any) -> str:
    found = metric.score(*reads())
    if not isinstance(found, Tensor) or tuple(found.shape) != (READS,):
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        return f"gives {shape} for {READS} reads, expected [{READS}]"
    if not found.is_floating_point():
        return f"gives {found.dtype}, expected floating numbers: add .float()"
    return "" if bool(found.isfinite().all()) else "gives NaN or infinite numbers for finite logits"


def _deterministic(metric: Any) -> str:
    first = metric.score(*reads())
    torch.rand(3)
    return "" if torch.equal(metric.score(*reads()), first) else "two calls give two results"


def _read_by_read(metric: Any) -> str:
    whole = metric.score(*reads())
    for read in range(READS):
        alone = metric.score(*(part[read : read + 1] for part in reads()))
        if not torch.allclose(alone[0], whole[read], rtol=1e-5, atol=1e-6):
            return f"read {read} scores {float(alone[0]):.4g} by itself and {float(whole[read]):.4g} among {READS}"
        mixed = [part.clone() for part in reads(seed=1)]
        for part, own in zip(mixed, reads(), strict=True):
            part[read] = own[read]
        among = metric.score(*mixed)[read]
        if not torch.allclose(among, whole[read], rtol=1e-5, atol=1e-6):
            return f"read {read} scores {float(among):.4g} among other reads and {float(whole[read]):.4g} among these"
    return ""


def _inputs(metric: Any) -> str:
    given, before = reads(), reads()
    metric.score(*given)
    names = ("logits", "target", "foil", "clean")
    changed = [name for name, a, b in zip(names, given, before, strict=True) if not torch.equal(a, b)]
    return f"{', '.join(changed)} written over" if changed else ""


def _one_token(metric: Any) -> str:
    scores = metric.score(*reads()).numpy().astype(np.float64)
    found = np.asarray(metric.combine(scores, np.arange(READS)))
    again = np.asarray(metric.combine(scores[:1], np.array([0])))
    if found.shape != (READS,) or not np.allclose(found[0], again[0], rtol=1e-12):
        return f"{READS} answers of one token combine to {found.shape}, the first by itself to {again}"
    return ""


def _several_tokens(metric: Any) -> str:
    """Answers of lopsided lengths, each against itself alone."""
    scores = metric.score(*reads()).numpy().astype(np.float64)
    starts = np.array([0, 1, 4])
    found = np.asarray(metric.combine(scores, starts))
    if found.shape != starts.shape:
        return f"{len(starts)} answers combine to {found.shape}, expected one number an answer"
    for i, (start, stop) in enumerate(zip(starts, [*starts[1:], READS], strict=True)):
        alone = np.asarray(metric.combine(scores[start:stop], np.array([0])))[0]
        if not np.allclose(alone, found[i], rtol=1e-9):
            return f"an answer of {stop - start} tokens combines to {alone:.4g} by itself, {found[i]:.4g} among others"
    return ""


def _travels(metric: Any) -> str:
    check_travels("it", metric.score)
    return ""


METRIC_PROMISES = (
    Promise("has a unit", _unit),
    Promise("gives one finite floating number a read", _form),
    Promise("each read's score depends on that read alone", _read_by_read),
    Promise("gives the same scores each time", _deterministic),
    Promise("does not write into what it is given", _inputs),
    Promise("answers of one token are combined each by itself", _one_token),
    Promise("answers of several tokens are combined each by itself", _several_tokens),
    Promise("can be sent to a server", _travels),
)
