"""Training on sequences of the bigram language, resumable after a kill to the same bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from patchboard.errors import RunFolderError
from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.settings import TrainingSection
from patchboard.store.folder import atomically
from patchboard.tasks.bigram import BigramTable, Sequences, draw_sequences

CURVE = {
    "step": pl.Int32(),
    "loss": pl.Float64(),  # nats a token that enters the loss, mean since the last point
    "copied": pl.Float64(),  # on held-out sequences: share of right predictions where a trigger stands again
    "bigram": pl.Float64(),  # ... where no trigger stands, the most likely token being right
    "previous": pl.Float64(),  # layer 1's attention to the token before, where that is a trigger
}
"""One row a checkpoint."""

_HELD_OUT = 256
"""Sequences on which a curve's points are measured."""
_WARM_UP = 50
"""Steps of rising learning rate: AdamW's first steps are as long as any."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands: steps done, and the curve so far."""

    steps: int
    curve: list[dict[str, float]]


def train(
    model: TwoLayers,
    table: BigramTable,
    triggers: int,
    settings: TrainingSection,
    seed: int,
    checkpoint: Path,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> pl.DataFrame:
    """Train ``model`` in place from where ``checkpoint`` stands; returns its curve.

    Step n's sequences depend on the seed and n alone. AdamW (0.9, 0.98) without decay, gradients of norm 1 at
    most, the learning rate rising for 50 steps, then a cosine down to a twentieth. Raises RunFolderError where the
    checkpoint cannot be read.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    progress = _restored(checkpoint, model, optimiser)
    since: list[Tensor] = []
    for step in range(progress.steps, settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule(step, settings.steps)
        rng = np.random.default_rng([seed, 0x7A1, step])
        loss = loss_of(model, draw_sequences(table, triggers, settings.batch, settings.length + 1, rng), settings.loss)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)  # without it one bad batch can undo the heads
        optimiser.step()
        since.append(loss.detach())
        done = step + 1
        if done % settings.checkpoint == 0 or done == settings.steps:
            same = np.random.default_rng([seed, 0xE7])
            held_out = draw_sequences(table, triggers, _HELD_OUT, settings.length + 1, same)
            point = {"step": done, "loss": torch.stack(since).mean().item(), **probed(model, held_out)}
            progress, since = Progress(done, [*progress.curve, point]), []
            _keep(checkpoint, model, optimiser, progress)
        tick(done, settings.steps)
    return pl.DataFrame(progress.curve, schema=CURVE)


def schedule(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step."""
    return min(1.0, (step + 1) / _WARM_UP) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))


def loss_of(model: TwoLayers, sequences: Sequences, which: str) -> Tensor:
    """Mean cross-entropy in nats of the next token, at all places, or where a trigger stands for the second time or
    later (``repeats``)."""
    tokens = torch.from_numpy(sequences.tokens).to(model.embed.device)
    logits, targets = model(tokens[:, :-1]), tokens[:, 1:]
    if which == "all":
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    counted = torch.from_numpy(sequences.occurrence[:, :-1] >= 2).to(tokens.device)
    return F.cross_entropy(logits[counted], targets[counted])


@torch.no_grad()
def probed(model: TwoLayers, sequences: Sequences) -> dict[str, float]:
    """``copied``, ``bigram`` and ``previous`` of CURVE on sequences."""
    tokens = torch.from_numpy(sequences.tokens).to(model.embed.device)
    h0, _, h2 = model.states(tokens[:, :-1])
    right = (model.logits(h2).argmax(-1) == tokens[:, 1:]).cpu().numpy()
    occurrence = sequences.occurrence[:, :-1]
    return {
        "copied": float(right[occurrence >= 2].mean()),
        "bigram": float(right[occurrence == 0].mean()),
        "previous": float(model.attention(0, h0).diagonal(-1, 1, 2).cpu().numpy()[occurrence[:, :-1] >= 1].mean()),
    }


def _keep(checkpoint: Path, model: TwoLayers, optimiser: torch.optim.Optimizer, progress: Progress) -> None:
    state: dict[str, Any] = {
        "model": model.state_dict(), "optimiser": optimiser.state_dict(), "steps": progress.steps,
        "curve": progress.curve,
    }  # fmt: skip
    atomically(checkpoint, lambda path: torch.save(state, path))


def _restored(checkpoint: Path, model: TwoLayers, optimiser: torch.optim.Optimizer) -> Progress:
    if not checkpoint.exists():
        return Progress(0, [])
    try:
        state = torch.load(checkpoint, map_location=model.embed.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return Progress(state["steps"], state["curve"])
    except Exception as error:  # by kind of damage: zip's, pickle's, torch's own errors
        what = f"cannot be read ({type(error).__name__})"
        raise RunFolderError(str(checkpoint), what, "delete it, or use --fresh to start over") from None
