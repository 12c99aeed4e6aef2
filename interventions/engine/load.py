"""Models by name: the embedded one, a local folder, the Hub. Configuration and tokenizer apart from weights."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

from interventions.engine.families import architecture_of, check_architecture
from interventions.errors import ModelError
from interventions.plan.build import EMBEDDED
from interventions.plan.model import ModelFacts
from interventions.spec.sections import ModelSection


def source_of(section: ModelSection) -> tuple[str, dict[str, str]]:
    """What to give ``from_pretrained``: a folder (the embedded model's too) or a Hub name and revision."""
    if section.name == EMBEDDED:
        return str(importlib.resources.files("interventions.embedded") / "weights"), {}
    if Path(section.name).is_dir():
        return section.name, {}
    if Path(section.name).is_absolute() or section.name.startswith("."):
        raise ModelError("model.name", f"there is no folder '{section.name}'", "give an existing folder or a Hub name")
    return section.name, {"revision": section.revision}


def _loaded(section: ModelSection, what: str, load: Any, **options: Any) -> Any:
    source, revision = source_of(section)
    try:
        return load(source, **revision, **options)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            "model.name",
            f"no {what} could be loaded from '{section.name}' ({first})",
            "check the name, the network and (for gated models) `hf auth login`",
        ) from error


def open_model(section: ModelSection) -> tuple[Any, ModelFacts]:
    """Tokenizer and facts, without weights. Raises ModelError."""
    from transformers import AutoConfig, AutoTokenizer

    config = _loaded(section, "configuration", AutoConfig.from_pretrained)
    architecture_of(config)
    tokenizer = _loaded(section, "tokenizer", AutoTokenizer.from_pretrained)
    facts = ModelFacts(config.model_type, config.num_hidden_layers, config.hidden_size, config.vocab_size)
    return tokenizer, facts


def load_weights(section: ModelSection, device: str, dtype: str) -> Any:
    """The causal language model in evaluation mode, on its device.

    device: auto (cuda where there is one), cpu, cuda. dtype: auto, or a torch dtype's name.
    """
    import torch
    from transformers import AutoModelForCausalLM

    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if where == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device", "no CUDA device is available", "use --device cpu")
    if dtype == "auto":
        kind: Any = torch.float32 if where == "cpu" or section.name == EMBEDDED else "auto"
    else:
        kind = getattr(torch, dtype)
    model = _loaded(section, "weights", AutoModelForCausalLM.from_pretrained, dtype=kind)
    check_architecture(model, architecture_of(model.config))
    return model.to(where).eval()
