"""Models by name: the embedded one, a local folder, the Hub. Configuration and tokenizer apart from weights."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

from interventions.engine.families import architecture_of, head_dim_of, mlp_width_of
from interventions.engine.sites import SITES
from interventions.errors import ModelError
from interventions.hub import HubSilentError, downloaded, looked_up
from interventions.plan.build import EMBEDDED
from interventions.plan.facts import ModelFacts
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
        if Path(source).is_dir():
            return load(source, **options)
        fetched = downloaded if what == "weights" else looked_up
        return fetched(lambda: load(source, **revision, **options), source, revision["revision"])
    except HubSilentError as error:
        found = f"no {what} could be loaded from '{section.name}' ({error})"
        raise ModelError("model.name", found, "check the network, then the same command") from error
    except Exception as error:  # a damaged file raises its reader's own: safetensors', tokenizers', torch's
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        here = "check that the folder's files are whole" if Path(source).is_dir() else ""
        raise ModelError(
            "model.name",
            f"no {what} could be loaded from '{section.name}' ({first})",
            here or "check the name, the network and (for gated models) `hf auth login`",
        ) from error


def open_model(section: ModelSection) -> tuple[Any, ModelFacts]:
    """Tokenizer and facts, without weights. Raises ModelError."""
    from transformers import AutoConfig, AutoTokenizer

    config = _loaded(section, "configuration", AutoConfig.from_pretrained)
    architecture = architecture_of(config)
    tokenizer = _loaded(section, "tokenizer", AutoTokenizer.from_pretrained)
    facts = ModelFacts(
        family=config.model_type,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocab=config.vocab_size,
        mlp=mlp_width_of(config),
        heads=getattr(config, "num_attention_heads", 0),
        head_dim=head_dim_of(config) if architecture.attention_out else 0,
        sites=tuple(site for site in SITES if not architecture.lacks(site)),
        packs=architecture.packs,
        context=context_of(config),
    )
    return tokenizer, facts


def context_of(config: Any) -> int:
    """The length that the model was made or trained for, 0 where its configuration names none.

    Scaled rotary positions (linear, yarn …) reach ``factor`` times as far as the length they were scaled from;
    checkpoints differ in which of the two lengths they call ``max_position_embeddings``.
    """
    named = getattr(config, "max_position_embeddings", None) or 0  # learned positions (n_positions) included
    rotary = getattr(config, "rope_parameters", None) or {}
    factor = rotary.get("factor")
    if not isinstance(factor, int | float):
        return named
    return max(named, int(factor * rotary.get("original_max_position_embeddings", named)))


def load_weights(section: ModelSection, device: str, dtype: str) -> Any:
    """The causal language model in evaluation mode, on its device or devices.

    device: auto (all GPUs there are, else the CPU), cpu, cuda. dtype: auto, or a torch dtype's name.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from interventions.engine.checkpoint import checkpoint_of
    from interventions.engine.device import device_map_for
    from interventions.engine.family_check import check_architecture
    from interventions.engine.read_weights import check_read

    device_map = device_map_for(device)
    if dtype == "auto":
        kind: Any = torch.float32 if device_map is None or section.name == EMBEDDED else "auto"
    else:
        kind = getattr(torch, dtype)
    how = {"dtype": kind, "device_map": device_map, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, found = _loaded(section, "weights", AutoModelForCausalLM.from_pretrained, **how)
    architecture = architecture_of(model.config)
    check_read(model, found, checkpoint_of(*source_of(section), model.config), architecture)
    model.eval()
    check_architecture(model, architecture)  # runs the model, so where that is fast
    return model
