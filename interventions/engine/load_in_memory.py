"""Check a model that the user has loaded, take the digest of its contents, and give it back as it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from patchboard.engine.families import architecture_of
from patchboard.engine.family_check import check_architecture
from patchboard.engine.in_memory import LoadedModel, at_hand
from patchboard.errors import ModelError

_ATTENTION = ("eager", "sdpa")
"""Attention that takes a mask made for copies."""
_NO_NUMBERS = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""Of a configuration: where it is from and how it was asked for, on which no number depends."""


@contextmanager
def holding(model: Any, tokenizer: Any) -> Iterator[LoadedModel]:
    """Within it the model's name finds it; afterwards model and modules are as they were: mode, forward, attributes.

    Weights are read once for the digest. Raises ModelError for what cannot be run.
    """
    check_model(model)
    _check_runs(model)
    _check_tokenizer(tokenizer, model)
    with unchanged(model):
        model.eval()
        check_architecture(model, architecture_of(model.config))
        loaded = LoadedModel(model, model.config, tokenizer, contents_in_memory(model, tokenizer))
        with at_hand(loaded):
            yield loaded


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Puts back what the body does to the modules' own attributes: training mode, and forward functions of nnsight."""
    before = [(module, dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for module, attributes in before:
            for name in vars(module).keys() - attributes.keys():
                del vars(module)[name]
            vars(module).update(attributes)


def check_model(model: Any) -> None:
    """Raises ModelError for what is no model of a known family."""
    if not isinstance(model, PreTrainedModel):
        what = f"found a {type(model).__name__}, expected a causal language model of transformers"
        raise ModelError("model", what, "give what AutoModelForCausalLM.from_pretrained returns")
    architecture_of(model.config)


def _check_runs(model: PreTrainedModel) -> None:
    """Raises ModelError where weights are missing, or attention drops the masks of copies."""
    empty = next((name for name, tensor in _tensors(model).items() if tensor.is_meta), None)
    if empty is not None:
        raise ModelError("model", f"its {empty} is on the meta device, without values", "load all of its weights")
    attention = getattr(model.config, "_attn_implementation", None)
    if attention not in (None, *_ATTENTION):
        what = f"its attention is {attention}, which takes no mask made for copies"
        raise ModelError("model", what, 'load it with attn_implementation="sdpa"')


def _check_tokenizer(tokenizer: Any, model: PreTrainedModel) -> None:
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        what = f"found a {type(tokenizer).__name__}, expected a tokenizer of transformers"
        raise ModelError("tokenizer", what, "give what AutoTokenizer.from_pretrained returns")
    embeddings: Any = model.get_input_embeddings()
    rows = embeddings.weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        what = f"its largest token id is {largest}, and the model embeds {rows} tokens"
        raise ModelError("tokenizer", what, "give the tokenizer that belongs to the model")


def contents_in_memory(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    """sha256 of ``weights`` (names, shapes, dtypes and bytes of all parameters and buffers, by name), of ``config``
    and of ``tokenizer``."""
    config = {key: value for key, value in model.config.to_dict().items() if key not in _NO_NUMBERS}
    return {
        "weights": _digest_of_tensors(_tensors(model)),
        "config": _digest_of_text(json.dumps(config, sort_keys=True, default=str)),
        "tokenizer": _digest_of_text(_text_of(tokenizer)),
    }


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, also those that are not saved; of tied ones one name."""
    return dict(sorted({**dict(model.named_buffers()), **dict(model.named_parameters())}.items()))


def _digest_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _text_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that ids come from: the whole of a fast tokenizer, else its vocabulary; and its settings."""
    core = getattr(tokenizer, "backend_tokenizer", None)
    own: Any = sorted(tokenizer.get_vocab().items())
    if core is not None:  # without what was set by whoever called it last
        own = {key: value for key, value in json.loads(core.to_str()).items() if key not in ("truncation", "padding")}
    settings = [type(tokenizer).__name__, tokenizer.special_tokens_map, getattr(tokenizer, "add_bos_token", None)]
    return json.dumps([own, settings], sort_keys=True, default=str)


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
