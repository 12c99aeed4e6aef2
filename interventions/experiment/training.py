"""The training loop of the experiments: killed at any step, it goes on to the same bit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from patchboard.experiment.training_state import keep_training, restore_training

_SECONDS_UNSAVED = 60.0


class Trainer:
    """Trains the weights of a model that need a gradient, in place, up to the steps that it is told.

    loss_of: step, from 0 -> the scalar loss of that step's batch. All that a step draws (its batch, its dropout) must
    follow from its number, so there is no generator whose state would have to be kept.
    rate_at: step -> the share of the optimisers' own learning rates, which are the highest.
    file: where the state is kept; one that is found there is gone on from. clip: largest norm of a step's gradient.

    Raises RunFolderError where the file cannot be read.
    """

    def __init__(
        self,
        model: nn.Module,
        optimisers: Sequence[Optimizer],
        loss_of: Callable[[int], Tensor],
        rate_at: Callable[[int], float],
        file: Path,
        clip: float | None = None,
    ):
        self.model, self.optimisers, self.loss_of, self.rate_at = model, optimisers, loss_of, rate_at
        self.file, self.clip = file, clip
        self.weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.highest = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        device = next(iter(self.weights.values())).device
        progress = restore_training(file, self.weights, optimisers, device)
        self.records: list[dict[str, float]] = progress.get("records", [])
        """What is measured on the way, kept with the state by ``save``."""
        self.seconds: float = progress.get("seconds", 0.0)
        self._losses: list[float] = progress.get("losses", [])
        self._on_device: list[Tensor] = []

    @property
    def step(self) -> int:
        """How many steps are done."""
        return len(self._losses) + len(self._on_device)

    @property
    def losses(self) -> list[float]:
        """The loss of every step done. Brought home only when asked for: a device need not be waited for at each."""
        if self._on_device:
            self._losses += torch.stack(self._on_device).tolist()
            self._on_device = []
        return self._losses

    def train_to(self, step: int, progress: Callable[[int], None] = lambda done: None) -> None:
        """Train until so many steps are done; nothing is done where they are. progress: told the steps done."""
        self.model.train()
        began = saved = time.monotonic()
        while self.step < step:
            self._one_step()
            now = time.monotonic()
            self.seconds, began = self.seconds + now - began, now
            if now - saved > _SECONDS_UNSAVED:
                self.save()
                saved = now
            progress(self.step)
        self.model.eval()

    def _one_step(self) -> None:
        share = self.rate_at(self.step)
        for optimiser, highest in zip(self.optimisers, self.highest, strict=True):
            for group, rate in zip(optimiser.param_groups, highest, strict=True):
                group["lr"] = rate * share
            optimiser.zero_grad()
        loss = self.loss_of(self.step)
        loss.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.weights.values(), self.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        self._on_device.append(loss.detach())

    def save(self) -> None:
        """Keep the state: a training that is killed goes on from here."""
        progress = {"losses": self.losses, "records": self.records, "seconds": self.seconds}
        keep_training(self.file, self.weights, self.optimisers, progress)


def trapezoid(step: int, steps: int, warmup: int = 0, cooldown: int = 0) -> float:
    """Share of the highest learning rate at a step: up over ``warmup`` steps, down to 0 over the last ``cooldown``."""
    up = (step + 1) / warmup if warmup else 1.0
    down = (steps - step) / cooldown if cooldown else 1.0
    return min(1.0, up, down)
