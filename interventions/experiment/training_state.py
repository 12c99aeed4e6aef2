"""Where a training stands, on disk: weights, optimisers and progress, from which it goes on to the same bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from patchboard.errors import RunFolderError
from patchboard.store.folder import RunFolder, atomically


def keep_training(
    file: Path, weights: Mapping[str, Tensor], optimisers: Sequence[Optimizer], progress: Mapping[str, Any]
) -> None:
    """Write the state in place of the one before, at once. weights: name -> those that are trained."""
    state = {
        "weights": {name: value.detach() for name, value in weights.items()},
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
        "progress": dict(progress),
    }
    atomically(file, lambda path: torch.save(state, path))


@torch.no_grad()
def restore_training(
    file: Path, weights: Mapping[str, Tensor], optimisers: Sequence[Optimizer], device: torch.device
) -> dict[str, Any]:
    """Put weights and optimisers where they stood; returns the progress, empty where there is no file.

    Raises RunFolderError where the file cannot be read.
    """
    if not file.exists():
        return {}
    try:
        state = torch.load(file, map_location=device, weights_only=True)
        for name, value in weights.items():
            value.copy_(state["weights"][name])
        for optimiser, kept in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)
        return state["progress"]
    except Exception as error:  # by kind of damage: zip's, pickle's, torch's own errors
        what = f"cannot be read ({type(error).__name__})"
        raise RunFolderError(str(file), what, "delete it, or use --fresh to start over") from None


def bind_to_device(folder: RunFolder, device: torch.device) -> None:
    """Note where the training is. Raises RunFolderError where it was begun on another kind of device."""
    known = folder.manifest.get("device", device.type)
    if known != device.type:
        what = f"was begun on {known}, this run is on {device.type}"
        raise RunFolderError(str(folder.path), what, f"use --device {known}, or --fresh to start over")
    folder.update_manifest(device=device.type, threads=torch.get_num_threads())
