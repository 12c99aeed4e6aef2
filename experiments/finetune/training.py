"""Training of the adapters, resumable after a kill to the same bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.device import device_of
from patchboard.errors import EngineError
from patchboard.experiment.training import Trainer, trapezoid
from patchboard.experiments.finetune.samples import Sample, batch_at, steps_of_training
from patchboard.experiments.finetune.settings import TrainingSection


def train(
    model: Any,
    samples: list[Sample],
    settings: TrainingSection,
    checkpoint: Path,
    tick: Callable[[int, int], None] = lambda done, of: None,
) -> list[float]:
    """Train the weights of ``model`` that learn, in place, from where ``checkpoint`` stands; returns each step's loss.

    The loss is the mean cross-entropy of the answers' tokens in nats, as the model itself computes it from labels.
    AdamW (0.9, 0.999) without decay. Step n's batch and dropout depend on the seed and n alone. Raises
    RunFolderError where the checkpoint cannot be read, EngineError where the loss is no number.
    """
    steps, device = steps_of_training(len(samples), settings), device_of(model)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    trainer = Trainer(
        model, [optimiser],
        lambda step: _loss(model, batch_at(step, samples, settings, device), settings, step, device),
        lambda step: trapezoid(step, steps, settings.warmup, max(1, steps - settings.warmup)),
        checkpoint, settings.clip,
    )  # fmt: skip
    while trainer.step < steps:
        saved_at = min(steps, (trainer.step // settings.checkpoint + 1) * settings.checkpoint)
        trainer.train_to(saved_at, lambda done: tick(done, steps))
        if not np.isfinite(trainer.losses).all():
            where = "training.learning_rate"
            raise EngineError(where, f"the loss is no number by step {trainer.step}", "use a lower rate, or clip")
        trainer.save()
    model.eval()
    return trainer.losses


def _loss(model: Any, batch: dict[str, Tensor], settings: TrainingSection, step: int, device: torch.device) -> Tensor:
    cuda = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"),
    ):
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))  # dropout's
        return model(**batch).loss
