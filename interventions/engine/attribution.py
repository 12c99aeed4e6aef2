"""Estimates of many cells of some prompts from one pass, on a model in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from patchboard.engine.batch import Batch, make_batch, on_device, put
from patchboard.engine.gradients import Points, traced_attributions
from patchboard.engine.local import LocalEngine
from patchboard.metrics.base import Graded
from patchboard.ops import OPS
from patchboard.plan.layout import answer_starts
from patchboard.plan.model import Group
from patchboard.plan.screen_layout import ScreenLayout, screen_layout


def attributions(
    engine: LocalEngine, group: Group, cells: Sequence[int], prompts: range, metric: type[Graded], steps: int
) -> np.ndarray:
    """[cell, prompt] float64, in the metric's unit: what patching each cell would change, to first order.

        sum over the cell's tokens of (edited state - clean state) . d metric / d state

    cells: places of the screened ones in ``group.uses``. steps: points between the embeddings of prompt and source over
    which the gradient is averaged; 0: the clean run's gradient. Of several right answers the first is meant. NaN where
    the edit cannot be made in a prompt, or the metric is undefined there.
    """
    screen = screen_layout(group, cells, prompts, steps)
    estimates = np.full((len(cells), len(prompts)), np.nan)
    if not screen.layout.edits:
        return estimates
    batch = make_batch(screen.layout)
    result = _pass(engine, batch, points_of(screen), metric)
    place = np.full(len(screen.layout.tokens), -1)
    place[: len(screen.prompts)] = screen.prompts - prompts.start
    total, seen = np.zeros_like(estimates), np.zeros(estimates.shape, bool)
    for edited, values in zip(batch.edits, result["estimates"], strict=True):
        at = edited.copies.numpy(), place[edited.rows.numpy()]
        np.add.at(total, at, values.double().cpu().numpy())
        seen[at] = True
    estimates[seen] = total[seen]
    undefined = np.isnan(result["scores"].float().cpu().numpy())
    estimates[:, screen.layout.reads.prompt[undefined] - prompts.start] = np.nan
    return estimates


def points_of(screen: ScreenLayout) -> Points:
    reads = screen.layout.reads
    return Points(
        put(screen.points),
        put(screen.ends),
        torch.as_tensor(screen.weights, dtype=torch.float32),
        put(screen.shared),
        put(answer_starts(reads.prompt, reads.copy)),
    )


def _pass(engine: LocalEngine, batch: Batch, points: Points, metric: type[Graded]) -> dict:
    ops = {name: op.apply for name, op in OPS.items()}
    placed = on_device(batch, engine.device)
    if engine.embed is not None:
        with torch.no_grad():
            placed = replace(placed, embeds=engine.embed(placed.tokens))
    return traced_attributions(engine.traced, engine.wiring, placed, points, metric.score, metric.slope, ops)
