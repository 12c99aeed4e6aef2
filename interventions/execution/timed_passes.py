"""What many passes will take, from the seconds of a few of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Seconds:
    """By the clock, and of the processors that this process took."""

    clock: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.clock + other.clock, self.processor + other.processor)

    def times(self, often: float) -> Seconds:
        return Seconds(self.clock * often, self.processor * often)


@dataclass(frozen=True)
class Pass:
    """A pass of the plan, which can be run with its first prompts alone. flops, run: of so many of them."""

    prompts: int
    flops: Callable[[int], int]
    run: Callable[[int], object]


def timed(work: Callable[[], object], device: torch.device) -> Seconds:
    """What is left queued on a device included."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Seconds(time.perf_counter() - clock, time.process_time() - processor)


def seconds_of(passes: Sequence[Pass], seconds: float, device: torch.device, first: bool) -> Seconds:
    """Of all these passes, by some that are run for about so many seconds: one prompt of the first, then, twice, as
    many as there is time for of the last, of one in the middle and of the first. first: whether nothing was run before,
    so that what the very first pass costs beside is theirs.

    Large parts are what counts: a short pass is slower a FLOP, which a line through points of both kinds tells apart
    from what a pass costs by itself.
    """
    cold, warm = (timed(lambda: passes[0].run(1), device) for _ in range(2))
    points, spent = [(passes[0].flops(1), warm)], 0.0
    chosen = [passes[i] for i in dict.fromkeys((len(passes) - 1, len(passes) // 2, 0))]
    for number, one in enumerate(chosen * 2):
        flops, found = points[-1]
        share = (seconds - spent) / (len(chosen) - number % len(chosen))
        room = flops * share / max(_own(found, device), 1e-4)
        count = next((n for n in range(one.prompts, 1, -1) if one.flops(n) <= room), 1)
        if spent and one.flops(count) > room:  # one prompt is more than there is time for
            break
        points.append((one.flops(count), timed(lambda one=one, count=count: one.run(count), device)))
        spent += _own(points[-1][1], device)
    flops = sum(one.flops(one.prompts) for one in passes)
    found = []
    for name in ("clock", "processor"):
        fixed, slope = _line([(of, getattr(each, name)) for of, each in points])
        extra = max(0.0, getattr(cold, name) - getattr(warm, name)) if first else 0.0
        found.append(len(passes) * fixed + flops * slope + extra)
    return Seconds(*found)


def _own(found: Seconds, device: torch.device) -> float:
    """Seconds that count: on a processor others may be at work beside, and the clock goes on."""
    return found.clock if device.type == "cuda" else found.processor


def _line(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """(seconds a pass, seconds a FLOP) by least squares, longer passes counting more; neither is below 0."""
    flops, seconds = np.array(points, dtype=float).T
    weights = 1 / np.sqrt(np.maximum(seconds, 1e-6))
    columns = np.stack([weights, flops * weights], 1)
    scale = columns.max(0)  # FLOPs are billions
    fixed, slope = np.linalg.lstsq(columns / scale, seconds * weights, rcond=None)[0] / scale
    if fixed < 0 or slope < 0 or len(set(flops.tolist())) == 1:
        return 0.0, float(seconds.sum() / flops.sum())
    return float(fixed), float(slope)
