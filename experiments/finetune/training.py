"""Training of the adapters, resumable after a kill to the same bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchboard.engine.device import device_of
from patchboard.errors import EngineError, RunFolderError
from patchboard.experiments.finetune.samples import Sample, batch_at, steps_an_epoch
from patchboard.experiments.finetune.settings import TrainingSection
from patchboard.store.folder import atomically


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
    learned = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimiser = torch.optim.AdamW(learned.values(), lr=settings.learning_rate, weight_decay=0.0)
    device = device_of(model)
    losses = _restored(checkpoint, learned, optimiser, device)
    steps = settings.epochs * steps_an_epoch(len(samples), settings)
    model.train()
    since: list[Tensor] = []
    for step in range(len(losses), steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * rate_at(step, steps, settings.warmup)
        since.append(_loss(model, batch_at(step, samples, settings, device), settings, step, device))
        optimiser.zero_grad()
        since[-1].backward()
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(list(learned.values()), settings.clip)
        optimiser.step()
        since[-1] = since[-1].detach()
        done = step + 1
        if done % settings.checkpoint == 0 or done == steps:
            losses, since = [*losses, *torch.stack(since).tolist()], []  # brought home only here
            if not np.isfinite(losses).all():
                where = "training.learning_rate"
                raise EngineError(where, f"the loss is no number by step {done}", "use a lower rate, or clip")
            _keep(checkpoint, learned, optimiser, losses)
        tick(done, steps)
    model.eval()
    return losses


def rate_at(step: int, steps: int, warmup: int) -> float:
    """Share of the highest learning rate at a step: up over the warm-up, then straight down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / max(1, steps - warmup)


def _loss(model: Any, batch: dict[str, Tensor], settings: TrainingSection, step: int, device: torch.device) -> Tensor:
    cuda = [device] if device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"),
    ):
        torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))  # dropout's
        return model(**batch).loss


def _keep(checkpoint: Path, learned: dict[str, Any], optimiser: torch.optim.Optimizer, losses: list[float]) -> None:
    weights = {name: value.detach() for name, value in learned.items()}
    state = {"weights": weights, "optimiser": optimiser.state_dict(), "losses": losses}
    atomically(checkpoint, lambda path: torch.save(state, path))


@torch.no_grad()
def _restored(
    checkpoint: Path, learned: dict[str, Any], optimiser: torch.optim.Optimizer, device: torch.device
) -> list[float]:
    """The losses of the steps that are done; weights and optimiser are put where they stood."""
    if not checkpoint.exists():
        return []
    try:
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, value in learned.items():
            value.copy_(state["weights"][name])
        optimiser.load_state_dict(state["optimiser"])
        return state["losses"]
    except Exception as error:  # by kind of damage: zip's, pickle's, torch's own errors
        what = f"cannot be read ({type(error).__name__})"
        raise RunFolderError(str(checkpoint), what, "delete it, or use --fresh to start over") from None
