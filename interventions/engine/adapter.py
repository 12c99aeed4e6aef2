"""``model.adapter``: a peft adapter, merged into the weights, so that the model is a plain one of its family."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from patchboard.engine.source import ADAPTER_CONFIG, looks_like_a_path
from patchboard.errors import ModelError
from patchboard.extras import require_extra
from patchboard.hub import HubSilentError, downloaded, looked_up
from patchboard.spec.sections import ModelSection
from patchboard.tasks.files import sha256_of
from patchboard.user_paths import expanded

_WHERE = "model.adapter"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

_BEFORE_THE_PROMPT = {
    "PROMPT_TUNING": "virtual tokens", "MULTITASK_PROMPT_TUNING": "virtual tokens", "P_TUNING": "virtual tokens",
    "CPT": "virtual tokens", "PREFIX_TUNING": "keys and values of virtual tokens",
    "ADAPTION_PROMPT": "keys and values of virtual tokens",
}  # fmt: skip
"""Kinds that put something before the prompt instead of changing weights."""

_ROUNDING = 1e-3
"""Largest relative difference of logits, merged against beside the weights, in float32; the measured one is 1e-6.
Weights of half precision are rounded once more by merging, to 2^-8: there it is 50 times as much."""


def notes(section: ModelSection) -> Iterator[str]:
    """Where the adapter names another base than the spec. Raises ModelError where it cannot be used."""
    if section.adapter is None:
        return
    require_extra("adapters", ModelError, _WHERE, f"'{section.adapter}'")
    config = _config(section.adapter)
    _check_kind(config)
    base = config.get("base_model_name_or_path") or ""
    if base and _last(base) != _last(section.name):
        yield f"the adapter {section.adapter} was trained on '{base}', and is put on '{section.name}'"


def _last(name: str) -> str:
    """The model's own name, without owner or path: copies of one model lie under several."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


def files(section: ModelSection) -> dict[str, str]:
    """The adapter's files with their sha256."""
    if section.adapter is None:
        return {}
    file_of = {name: _file(section.adapter, name) for name in (ADAPTER_CONFIG, *_WEIGHTS)}
    return {f"{section.adapter}/{name}": sha256_of(file) for name, file in file_of.items() if file is not None}


def _source(adapter: str) -> str:
    """A folder or a Hub name. Raises ModelError for a path where no folder is."""
    path = expanded(adapter)
    if path.is_dir():
        return str(path)
    if path.is_file():
        raise ModelError(_WHERE, f"'{adapter}' is a file, expected an adapter's folder", f"give {path.parent}")
    if looks_like_a_path(adapter):
        raise ModelError(_WHERE, f"there is no folder '{adapter}'", "give an existing folder or a Hub name")
    return adapter


def _file(adapter: str, name: str) -> str | None:
    """Its path here, fetched from the Hub where it must be; None where the adapter has no such file."""
    from transformers.utils.hub import cached_file

    source = _source(adapter)
    if Path(source).is_dir():
        return str(Path(source) / name) if (Path(source) / name).is_file() else None
    fetched = looked_up if name == ADAPTER_CONFIG else downloaded
    try:
        return fetched(lambda: cached_file(source, name, _raise_exceptions_for_missing_entries=False), source, None)
    except (OSError, HubSilentError) as error:
        first = str(error).strip().splitlines()[0]
        remedy = "check the name, the network and (for gated models) `hf auth login`"
        raise ModelError(_WHERE, f"'{adapter}' could not be fetched ({first})", remedy) from error


def _config(adapter: str) -> Mapping[str, Any]:
    file = _file(adapter, ADAPTER_CONFIG)
    if file is None:
        if _file(adapter, "config.json") is not None:
            what = f"'{adapter}' is a model, no adapter ({ADAPTER_CONFIG} is missing)"
            raise ModelError(_WHERE, what, "give it as model.name, without model.adapter")
        raise ModelError(_WHERE, f"'{adapter}' has no {ADAPTER_CONFIG}", "give a folder that peft has saved")
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(_WHERE, f"{file} is no JSON ({error})", "save the adapter again") from None
    return config if isinstance(config, dict) else {}


def _check_kind(config: Mapping[str, Any]) -> None:
    """Raises ModelError for an adapter that is no change of weights."""
    kind = str(config.get("peft_type"))
    name = kind.replace("_", " ").lower()
    if kind in _BEFORE_THE_PROMPT:
        what = f"is a {name} adapter: it puts {_BEFORE_THE_PROMPT[kind]} before the prompt and changes no weight"
        raise ModelError(_WHERE, what, "give an adapter of weights (LoRA, DoRA, IA3 …)")
    if config.get("alora_invocation_tokens"):
        what = "is an activated LoRA: it acts only behind its own invocation tokens"
        raise ModelError(_WHERE, what, "give an adapter that acts on every token")
    if config.get("layer_replication"):
        what = "repeats layers (layer_replication), so that the model has others than its configuration says"
        raise ModelError(_WHERE, what, "save the merged model as a folder of its own and name it")


def merged(model: Any, section: ModelSection) -> Any:
    """The model with the adapter in its weights, held against the adapter beside them. Raises ModelError."""
    import torch
    from peft import PeftModel

    assert section.adapter is not None
    files(section)  # fetched
    config = _file(section.adapter, ADAPTER_CONFIG)
    assert config is not None, "refused by notes()"
    source = str(Path(config).parent)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of peft, on what is looked at here anyway
        try:
            beside = PeftModel.from_pretrained(model, source).eval()
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            what = f"'{section.adapter}' does not fit '{section.name}' ({first})"
            raise ModelError(_WHERE, what, "name the model that it was trained on as model.name") from error
        _check_all_read(beside, source)
        if not hasattr(beside.base_model, "merge_and_unload"):
            kind = next(iter(beside.peft_config.values())).peft_type
            what = f"an adapter of kind {kind} cannot be merged into weights"
            raise ModelError(_WHERE, what, "give a LoRA adapter")
        before = _logits(beside)
        plain = beside.merge_and_unload(safe_merge=True).eval()
        after = _logits(plain)
    far = ((after - before).abs().max() / before.abs().max()).item()
    if not far <= _ROUNDING * (1 if plain.dtype == torch.float32 else 50):
        what = f"merged into the weights '{section.adapter}' computes something else (logits differ by {far:.1%})"
        raise ModelError(_WHERE, what, "it may act on tied weights: save the merged model by hand and compare")
    return plain


def _logits(model: Any) -> Any:
    import torch

    tokens = torch.arange(6, device=model.device)[None] % model.config.vocab_size
    return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits.float().cpu()


def _check_all_read(beside: Any, source: str) -> None:
    """Every tensor of the adapter's file is in the model with its value, and the model has no more of them."""
    import torch
    from peft import get_peft_model_state_dict
    from peft.utils import load_peft_weights

    stored = load_peft_weights(source, device="cpu")
    here = {name: value.cpu() for name, value in get_peft_model_state_dict(beside, save_embedding_layers=False).items()}
    whole = beside.state_dict()
    for name, value in stored.items():
        own = here.get(name, whole.get(name))
        if own is None or own.shape != value.shape or not torch.equal(own.float().cpu(), value.to(own.dtype).float()):
            what = f"no part of the model reads its tensor {name}"
            raise ModelError(_WHERE, what, "name the model that it was trained on as model.name")
    lacking = sorted(set(here) - set(stored))
    if lacking:
        what = f"its file lacks {lacking[0]} ({len(lacking)} in all), which {ADAPTER_CONFIG} asks for"
        raise ModelError(_WHERE, what, "save the adapter again")
