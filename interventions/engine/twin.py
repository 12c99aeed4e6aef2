"""An untrained twin: a model's class and configuration with random weights, which has learned nothing."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from patchboard.engine.device import device_of


@dataclass(frozen=True)
class Blueprint:
    """What a twin is made of, without the model's weights: of a loaded model, however it was named and changed.

    kind: its class, so that a model of code of its own has a twin of the same code. devices: of its modules, where
    they lie on several.
    """

    kind: type[PreTrainedModel]
    config: PreTrainedConfig
    dtype: torch.dtype
    device: torch.device
    devices: dict[str, Any] | None


def blueprint_of(model: PreTrainedModel) -> Blueprint:
    devices = getattr(model, "hf_device_map", None)
    several = devices if devices and len(set(devices.values())) > 1 else None
    return Blueprint(type(model), _unquantised(model.config), model.dtype, device_of(model), several)


def _unquantised(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy that asks for plain weights."""
    own: Any = copy.deepcopy(config)  # of some family, with fields of its own
    if hasattr(own, "quantization_config"):
        del own.quantization_config
    return own


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it torch draws on the CPU as of this seed; afterwards it goes on as if nothing had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def untrained_twin(blueprint: Blueprint, seed: int) -> PreTrainedModel:
    """A model of the blueprint whose weights are transformers' own initialisation, in evaluation mode.

    Drawn in float32 on the CPU, so that a seed means the same weights on every machine; then in the model's dtype and
    on its devices, so that both are computed alike.
    """
    config = copy.deepcopy(blueprint.config)
    config.dtype = torch.float32
    with seeded(seed), torch.device("cpu"):
        twin: Any = blueprint.kind(config).float()
    twin.eval()
    for weights in twin.parameters():  # buffers stay: from_pretrained keeps rotary frequencies in float32 too
        weights.data = weights.data.to(blueprint.dtype)
    if blueprint.devices is None:
        return twin.to(blueprint.device)
    from accelerate import dispatch_model

    dispatch_model(twin, blueprint.devices)  # hooks are put on the model itself
    return twin
