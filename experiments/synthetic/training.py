"""Training that can be killed: after each stretch its whole state is on disk, and going on gives the same numbers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from patchboard.experiments.synthetic.batches import Batches
from patchboard.experiments.synthetic.model import Regressor, build_model
from patchboard.experiments.synthetic.settings import Settings, TrainingSection
from patchboard.store.folder import atomically

LOGGED = 50
"""Steps whose mean loss is one point of the training curve."""
_SECONDS_UNSAVED = 60.0


class Trainer:
    """One training. ``to(step)`` trains up to a step; ``model`` is then the checkpoint.

    file: where its state is kept; a state found there is gone on from. ticked: told (steps done, of).
    """

    def __init__(self, settings: Settings, file: Path, device: torch.device, ticked: Callable[[int, int], None]):
        self.settings, self.file, self.device, self.ticked = settings, file, device, ticked
        training, mixture = settings.training, settings.data.mixture
        self.model = build_model(settings.model, mixture.inputs, mixture.pairs, training.seed).to(device).train()
        self.batches = Batches(mixture, training.batch, training.seed, device)
        self.optimisers = optimisers_of(self.model, training)
        self.predict = torch.compile(self.model.predictions) if training.compiled else self.model.predictions
        self.step, self.seconds = 0, 0.0
        self.losses: list[float] = []
        """Mean squared error of each LOGGED steps."""
        self._sum = torch.zeros((), device=device)
        if file.exists():
            self._restore(torch.load(file, map_location=device, weights_only=True))

    def to(self, step: int) -> None:
        """Train until so many steps are done, and save. Nothing is done where they are."""
        began = saved = time.monotonic()
        while self.step < step:
            self._one_step()
            now = time.monotonic()
            self.seconds, began = self.seconds + now - began, now
            if now - saved > _SECONDS_UNSAVED:
                self._save()
                saved = time.monotonic()
            self.ticked(self.step, self.settings.training.steps)
        self._save()

    def _one_step(self) -> None:
        training = self.settings.training
        tokens, y = self.batches.at(self.step, tasks_at(self.step, self.settings))
        factor = rate_at(self.step, training)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * factor
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
            predicted = self.predict(tokens)
        loss = (predicted.float() - y).square().mean()
        loss.backward()
        if training.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), training.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        self._sum += loss.detach()  # brought home only when logged: a device need not be waited for at each step
        if self.step % LOGGED == 0:
            self.losses.append(self._sum.item() / LOGGED)
            self._sum.zero_()

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step, "seconds": self.seconds, "losses": self.losses, "sum": self._sum,
        }  # fmt: skip
        atomically(self.file, lambda path: torch.save(state, path))

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for optimiser, kept in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]
        self._sum: Tensor = state["sum"]


def tasks_at(step: int, settings: Settings) -> int:
    """How many of the tasks are in the mixture at a step: all, unless they join one by one."""
    every, tasks = settings.training.one_by_one, len(settings.data.tasks)
    return min(tasks, 1 + step // every) if every else tasks


def rate_at(step: int, training: TrainingSection) -> float:
    """The learning rate at a step, as a share of its highest: up over the warm-up, down over the cool-down."""
    up = (step + 1) / training.warmup if training.warmup else 1.0
    down = (training.steps - step) / training.cooldown if training.cooldown else 1.0
    return min(1.0, up, down)


def optimisers_of(model: Regressor, training: TrainingSection) -> list[torch.optim.Optimizer]:
    """Adam over all, or Muon over the blocks' matrices and Adam over the rest. Each group keeps its ``peak`` rate."""
    betas = training.betas[0], training.betas[1]
    of_blocks = (
        [p for p in model.language.transformer.h.parameters() if p.dim() == 2] if training.optimiser == "muon" else []
    )
    chosen = {id(p) for p in of_blocks}
    unused = id(model.language.transformer.wte.weight)  # the embedding of the vocabulary of one
    rest = [p for p in model.parameters() if id(p) not in chosen and id(p) != unused]
    made: list[torch.optim.Optimizer] = [torch.optim.Adam(rest, lr=training.learning_rate, betas=betas, fused=True)]
    if of_blocks:
        made.append(torch.optim.Muon(of_blocks, lr=training.matrix_rate, weight_decay=0.0))
    for optimiser in made:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return made
