"""Where a model's weights go, and where a forward pass begins."""

from __future__ import annotations

from typing import Any

import torch

from patchboard.errors import ModelError


def device_map_for(device: str) -> str | dict[str, str] | None:
    """What to give ``from_pretrained``: None for the CPU; all on one GPU; ``auto`` spreads over all GPUs there are,
    and what does not fit stays on the CPU (through accelerate).

    device: auto, cpu or cuda. Raises ModelError where cuda is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device", "no CUDA device is available", "use --device cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return None
    return "auto" if device == "auto" else {"": "cuda"}


def device_of(model: Any) -> torch.device:
    """The device of a model's inputs: its embedding's, also where accelerate keeps the weights elsewhere."""
    hook = getattr(model.get_input_embeddings(), "_hf_hook", None)
    place = getattr(hook, "execution_device", None)
    if place is None:
        return model.get_input_embeddings().weight.device
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)
