"""Where a model's weights go, and where a forward pass begins."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from patchboard.errors import ModelError

Device = str | tuple[str, ...]
"""auto, cpu, cuda, one GPU (cuda:1), or several over which one copy of the weights is spread."""
_FOR_WEIGHTS = 0.9
"""Of each GPU's free memory, where weights are spread: passes need the rest."""


def device_map_for(device: Device) -> str | dict[str, str] | None:
    """What to give ``from_pretrained``: None for the CPU; all on one GPU; ``auto`` spreads over all GPUs there are,
    and what does not fit stays on the CPU (through accelerate).

    Raises ModelError where cuda is asked for and there is none.
    """
    if device != "auto" and device != "cpu" and not torch.cuda.is_available():
        raise ModelError("--device", "no CUDA device is available", "use --device cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return None
    return "auto" if device == "auto" or isinstance(device, tuple) else {"": device}


def max_memory_for(device: Device) -> dict[int | str, int] | None:
    """Bytes that weights may take of each GPU over which they are spread, and of the CPU; None for accelerate's own."""
    if not isinstance(device, tuple):
        return None
    numbers = [torch.device(name).index for name in device]
    room: dict[int | str, int] = {number: int(torch.cuda.mem_get_info(number)[0] * _FOR_WEIGHTS) for number in numbers}
    return room | {"cpu": psutil.virtual_memory().available}


def device_of(model: Any) -> torch.device:
    """The device of a model's inputs: its embedding's, also where accelerate keeps the weights elsewhere."""
    hook = getattr(model.get_input_embeddings(), "_hf_hook", None)
    place = getattr(hook, "execution_device", None)
    if place is None:
        return model.get_input_embeddings().weight.device
    return torch.device("cuda", place) if isinstance(place, int) else torch.device(place)


def devices_of(model: Any) -> tuple[torch.device, ...]:
    """Those that compute: where it is spread over GPUs all of these, in the order of their numbers."""
    first = device_of(model)
    lies = {parameter.device for parameter in model.parameters() if parameter.device.type == first.type}
    return tuple(sorted(lies | {first}, key=lambda place: place.index or 0))


def slow_dtype(device: torch.device, dtype: torch.dtype) -> str:
    """A note where the processor has no instructions for the model's dtype, so that it saves memory and no time."""
    able = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}.get(dtype)
    if device.type != "cpu" or able is None or getattr(torch.ops.mkldnn, able)():
        return ""
    name = str(dtype).removeprefix("torch.")
    return f"this processor computes {name} without instructions for it: passes take longer than in float32"
