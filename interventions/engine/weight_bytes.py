"""How many bytes a model's weights will take, from its configuration: nothing is loaded."""

from __future__ import annotations

import copy
from typing import Any

import torch

from patchboard.engine.load import kind_of, open_config
from patchboard.engine.trust import code_is_trusted
from patchboard.spec.sections import ModelSection

_BYTES = {"8bit": 1.0, "4bit": 0.5}
"""Of a number in a matrix that ``model.quantization`` quantises: those of linear maps, but not of the head."""


def weight_bytes(section: ModelSection, on_cpu: bool) -> int:
    """As ``load_weights`` holds them. A checkpoint that is quantised itself is counted as if it were not."""
    from transformers import AutoModelForCausalLM

    config = copy.deepcopy(open_config(section))
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, trust_remote_code=code_is_trusted())
    kind = kind_of(section, section.dtype, on_cpu)
    each = (kind if isinstance(kind, torch.dtype) else config.dtype or torch.float32).itemsize
    linear = (module for module in model.modules() if isinstance(module, torch.nn.Linear))
    quantised = {id(module.weight) for module in linear if module is not model.get_output_embeddings()}
    small = _BYTES.get(section.quantization or "", each)
    return int(sum(p.numel() * (small if id(p) in quantised else each) for p in model.parameters()))
