"""Low-rank adapters in some layers of a causal language model, by peft."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch

from patchboard.engine.families import architecture_of
from patchboard.engine.load import open_config
from patchboard.engine.trust import code_is_trusted
from patchboard.errors import SpecError
from patchboard.experiments.finetune.settings import AdapterSection
from patchboard.spec.sections import ModelSection

Which = Literal["first", "last"]
WHICH: tuple[Which, Which] = ("first", "last")


def layers_of(which: Which, section: AdapterSection, layers: int) -> list[int]:
    """Blocks that get adapters, from 0. Raises SpecError unless the model has more than are asked for."""
    if section.layers >= layers:
        what = f"found {section.layers} of the model's {layers}, first and last would be the same"
        raise SpecError("adapter.layers", what, f"write at most {layers - 1}")
    return list(range(section.layers)) if which == "first" else list(range(layers - section.layers, layers))


def adapted(model: Any, section: AdapterSection, layers: list[int], seed: int) -> Any:
    """The model with adapters in these layers, the only weights that learn; it starts out computing the same.

    W x becomes W x + (alpha / rank) B A dropout(x), A [rank, in] random, B [out, rank] zero (Hu et al. 2021).
    Raises SpecError where ``modules`` names none of the model's, or is needed.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    modules = _linear_maps(model) if section.modules == "all" else section.modules
    config = LoraConfig(
        task_type="CAUSAL_LM", r=section.rank, lora_alpha=section.alpha, lora_dropout=section.dropout,  # type: ignore[arg-type]
        target_modules=modules, layers_to_transform=layers,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),  # GPT-2 stores its weights turned
    )  # fmt: skip
    torch.manual_seed(seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of transformers, for what peft asks it
            return get_peft_model(model, config)
    except ValueError as error:
        if modules is None:
            what = f"is null, and peft has no default for models of type {model.config.model_type}"
            raise SpecError("adapter.modules", what, "write all, or names as in [q_proj, v_proj]") from None
        what = f"peft refuses {modules}: {str(error).splitlines()[0]}"
        raise SpecError("adapter.modules", what, "name modules of the model's blocks") from None


def _linear_maps(model: Any) -> list[str]:
    """Names, within a block, of the modules that multiply by a matrix; peft's own "all-linear" knows no layers."""
    from transformers.pytorch_utils import Conv1D

    architecture = architecture_of(model.config)
    blocks = model.get_submodule(f"{architecture.decoder}.{architecture.blocks}")
    maps = (torch.nn.Linear, Conv1D)
    names = {name.rpartition(".")[2] for name, module in blocks.named_modules() if isinstance(module, maps)}
    if "mamba" in model.config.model_type:
        names.discard("out_proj")  # its fused kernel takes that weight past any adapter, and peft refuses it
    return sorted(names)


def trained_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def without_weights(section: ModelSection) -> Any:
    """The model's modules with no storage behind them, of its configuration alone."""
    from transformers import AutoModelForCausalLM

    config = open_config(section)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=code_is_trusted())
