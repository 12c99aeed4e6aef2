"""Is the loaded model the GGUF file's? Every tensor and every entry that bears on numbers is read, or agrees anyway.

transformers takes the tensors and entries that it has a name for and passes over the rest without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchboard.engine.gguf import metadata, path_of
from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection


def check_gguf_read(model: Any, loading: Mapping[str, Any], section: ModelSection) -> None:
    """Hold the loaded model against its file, and put right what the loader passes over. Raises ModelError.

    The model is a plain one afterwards: its weights are unpacked, so nothing of it is quantised any more.
    """
    path = path_of(section)
    assert path is not None
    entries, tensors = metadata(path)
    for name, stored, wanted in sorted(loading["mismatched_keys"]):
        shapes = " x ".join(map(str, stored)), " x ".join(map(str, wanted))
        raise _wrong(path, f"its weight {name} is {shapes[0]}, its entries say {shapes[1]}")
    _check_entries(model, entries, path)
    _check_tensors(model, tensors, entries, path)
    missing = sorted(loading["missing_keys"])
    if missing:
        raise _wrong(path, f"it has no tensor for the weight {missing[0]} ({len(missing)} in all)")
    _scale_frequencies(model, path, tensors)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None


def _wrong(path: Path, what: str) -> ModelError:
    remedy = "give the model in the Hub's format (config.json and safetensors)"
    return ModelError("model.name", f"'{path.name}': {what}", remedy)


_FREQUENCIES = "rope_freqs.weight"


def _check_tensors(model: Any, tensors: tuple[str, ...], entries: Mapping[str, Any], path: Path) -> None:
    from transformers.modeling_gguf_pytorch_utils import (
        TENSOR_PROCESSORS,
        TensorProcessor,
        get_gguf_hf_weights_map,
    )

    kind = TENSOR_PROCESSORS.get(entries["general.architecture"], TensorProcessor)
    read = set(get_gguf_hf_weights_map(model, kind(config=model.config.to_dict())))
    # experts of one layer are one tensor there and many here: what lacks one is seen by its missing weights
    unread = sorted(name for name in tensors if name not in read and "_exps." not in name and name != _FREQUENCIES)
    if unread:
        more = f" and {len(unread) - 1} more" if len(unread) > 1 else ""
        raise _wrong(path, f"no part of a '{model.config.model_type}' model reads its tensor {unread[0]}{more}")


_HARMLESS = ("tensor_data_layout", "vocab_size", "pooling_type", "attention.causal", "feed_forward_length",
             "rope.scaling.finetuned", "embedding_length_out")  # fmt: skip
"""Entries of a model that change no number beyond what the tensors' shapes already say."""


def _check_entries(model: Any, entries: Mapping[str, Any], path: Path) -> None:
    """Entries of the model's architecture that the loader does not read must agree with the model all the same."""
    from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

    prefix = f"{entries['general.architecture']}."
    mapped = GGUF_CONFIG_MAPPING.get(model.config.model_type) or GGUF_CONFIG_MAPPING.get(prefix[:-1]) or {}
    own = {key.removeprefix(prefix): value for key, value in entries.items() if key.startswith(prefix)}
    here = _values(model, own)
    for name, value in sorted(own.items()):
        if mapped.get(name) is not None or name in _HARMLESS:
            continue
        if name not in here:
            raise _wrong(path, f"transformers does not read its entry {prefix}{name} ({value})")
        if not _close(value, here[name]):
            what = f"transformers does not read its entry {prefix}{name}: {value}, and takes {here[name]}"
            raise _wrong(path, what)
    scale, head = getattr(model.config, "query_pre_attn_scalar", None), getattr(model.config, "head_dim", None)
    if scale is not None and scale != head:  # no entry has it: Gemma's 27B models scale by d_model / heads
        raise _wrong(
            path, f"nothing in it tells the scale of its attention (transformers takes {scale}, a head is {head})"
        )


def _values(model: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """Entry -> what the loaded model has for it, of those that bear on numbers."""
    config = model.config
    rotary = getattr(config, "rope_parameters", None) or {}
    frequencies = _inverse_frequencies(model)
    here = {
        "attention.key_length": getattr(config, "head_dim", None),
        "attention.value_length": getattr(config, "head_dim", None),
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "use_parallel_residual": getattr(config, "use_parallel_residual", None),
        "rope.freq_base": rotary.get("rope_theta"),
        "rope.scaling.original_context_length": own.get("context_length"),  # as long as it now is: not scaled
        "rope.scaling.type": "none",
        "rope.scaling.factor": 1.0,
        "rope.scaling.attn_factor": 1.0,
        "rope.scale_linear": 1.0,
    }
    if frequencies is not None:
        here["rope.dimension_count"] = 2 * frequencies.shape[-1]
    return here


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= 1e-5 * abs(other)
    return one == other


def _inverse_frequencies(model: Any) -> Any:
    """The buffer of its rotary positions, None where it has none or several kinds."""
    return next((b for at, b in model.named_buffers() if at.endswith("rotary_emb.inv_freq")), None)


def _scale_frequencies(model: Any, path: Path, tensors: tuple[str, ...]) -> None:
    """Llama 3's scaled rotary positions: factors, one a frequency, by which llama.cpp divides. Raises ModelError."""
    if _FREQUENCIES not in tensors:
        return
    import torch
    from gguf import GGUFReader

    stored = next(tensor for tensor in GGUFReader(str(path)).tensors if tensor.name == _FREQUENCIES)
    factors = torch.from_numpy(stored.data.copy()).float().reshape(-1)
    own = _inverse_frequencies(model)
    if own is None or own.shape != factors.shape:
        shape = "none" if own is None else f"{own.shape[0]}"
        raise _wrong(path, f"{_FREQUENCIES} has {factors.numel()} factors, the model has {shape} rotary frequencies")
    own.div_(factors.to(own.device))
