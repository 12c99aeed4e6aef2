"""The training: its model, batches, optimisers and rate, and the curve of its loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from patchboard.experiment.training import Trainer, trapezoid
from patchboard.experiments.synthetic.batches import Batches
from patchboard.experiments.synthetic.model import Regressor, build_model
from patchboard.experiments.synthetic.settings import SyntheticSettings, TrainingSection

_LOGGED = 50
"""Steps whose mean loss is one point of the training curve."""


def trainer_of(settings: SyntheticSettings, file: Path, device: torch.device) -> Trainer:
    """The training, from where ``file`` stands. The loss is the mean squared error at the y."""
    training, mixture = settings.training, settings.data.mixture
    model = build_model(settings.model, mixture.inputs, mixture.pairs, training.seed).to(device)
    batches = Batches(mixture, training.batch, training.seed, device)
    predict = torch.compile(model.predictions) if training.compiled else model.predictions

    def loss_of(step: int) -> Tensor:
        tokens, y = batches.at(step, tasks_at(step, settings))
        with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            predicted = predict(tokens)
        return (predicted.float() - y).square().mean()

    optimisers = optimisers_of(model, training)

    def rate_at(step: int) -> float:
        return trapezoid(step, training.steps, training.warmup, training.cooldown)

    return Trainer(model, optimisers, loss_of, rate_at, file, training.clip)


def loss_curve(losses: list[float]) -> pl.DataFrame:
    """``step, loss``: the mean squared error of each 50 steps."""
    steps = range(_LOGGED, len(losses) + 1, _LOGGED)
    sums = [np.cumsum(losses[step - _LOGGED : step], dtype=np.float32)[-1] for step in steps]
    return pl.DataFrame({"step": steps, "loss": [float(each) / _LOGGED for each in sums]})


def tasks_at(step: int, settings: SyntheticSettings) -> int:
    """How many of the tasks are in the mixture at a step: all, unless they join one by one."""
    every, tasks = settings.training.one_by_one, len(settings.data.tasks)
    return min(tasks, 1 + step // every) if every else tasks


def optimisers_of(model: Regressor, training: TrainingSection) -> list[torch.optim.Optimizer]:
    """Adam over all, or Muon over the blocks' matrices and Adam over the rest."""
    betas = training.betas[0], training.betas[1]
    of_blocks = (
        [p for p in model.language.transformer.h.parameters() if p.dim() == 2] if training.optimiser == "muon" else []
    )
    chosen = {id(p) for p in of_blocks}
    unused = id(model.language.transformer.wte.weight)  # the embedding of the vocabulary of one
    rest = [p for p in model.parameters() if id(p) not in chosen and id(p) != unused]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(rest, lr=training.learning_rate, betas=betas, fused=True)
    ]
    if of_blocks:
        optimisers.append(torch.optim.Muon(of_blocks, lr=training.matrix_rate, weight_decay=0.0))
    return optimisers
