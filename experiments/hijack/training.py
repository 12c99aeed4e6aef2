"""Training on sequences of the bigram language, resumable after a kill to the same bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from patchboard.experiment.training import Trainer, trapezoid
from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.settings import TrainingSection
from patchboard.experiments.hijack.tables import CURVE
from patchboard.tasks.bigram import BigramTable, Sequences, draw_sequences

_HELD_OUT = 256
"""Sequences on which a curve's points are measured."""
_WARM_UP = 50
"""Steps of rising learning rate: AdamW's first steps are as long as any."""


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

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, 0x7A1, step])
        return loss_of(model, draw_sequences(table, triggers, settings.batch, settings.length + 1, rng), settings.loss)

    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    # without a bound on the gradient one bad batch can undo the heads
    trainer = Trainer(model, [optimiser], loss_at, lambda step: schedule(step, settings.steps), checkpoint, clip=1.0)
    held_out = draw_sequences(table, triggers, _HELD_OUT, settings.length + 1, np.random.default_rng([seed, 0xE7]))
    for before in range(len(trainer.records) * settings.checkpoint, settings.steps, settings.checkpoint):
        trainer.train_to(min(before + settings.checkpoint, settings.steps), lambda done: tick(done, settings.steps))
        loss = torch.tensor(trainer.losses[before:]).mean().item()
        trainer.records.append({"step": trainer.step, "loss": loss, **probed(model, held_out)})
        trainer.save()
    return pl.DataFrame(trainer.records, schema=CURVE)


def schedule(step: int, steps: int) -> float:
    """Share of the highest learning rate at a step."""
    return trapezoid(step, steps, _WARM_UP) * (0.05 + 0.475 * (1 + math.cos(math.pi * step / steps)))


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
