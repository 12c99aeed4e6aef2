"""Is the loaded model the checkpoint's? Every tensor of its files is read, or is on a short list of harmless ones.

transformers goes on without a word where weights are missing (it draws random ones), where the checkpoint holds more
than the configuration asks for, and where quantised numbers are read as plain ones: another model's numbers each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

from patchboard.engine.checkpoint import Checkpoint, Stored
from patchboard.engine.families import Architecture
from patchboard.errors import ModelError

_REMEDY = "give the config.json that belongs to the checkpoint"


def check_read(model: Any, loading: Mapping[str, Any], checkpoint: Checkpoint, architecture: Architecture) -> None:
    """found: transformers' loading info of ``model``. Raises ModelError, one line with the first tensor's name."""
    for name, stored, wanted in sorted(loading["mismatched_keys"]):
        shapes = " x ".join(map(str, stored)), " x ".join(map(str, wanted))
        raise _wrong(f"its weight {name} is {shapes[0]}, its configuration says {shapes[1]}")
    unread = [name for name in _unread(model, loading, checkpoint) if not _harmless(name, checkpoint, model)]
    _check_kinds(model, unread, checkpoint, architecture)
    missing = sorted(loading["missing_keys"])
    if missing:
        beside = f", and nothing reads its {_first(unread)}" if unread else ""
        raise _wrong(f"its checkpoint lacks the weight {_first(missing)}{beside}")
    if unread:
        raise _wrong(
            f"its checkpoint holds {_first(unread)}, which no part of a '{model.config.model_type}' model reads"
        )
    _check_ambiguous(model, checkpoint)


def _wrong(what: str, remedy: str = _REMEDY) -> ModelError:
    return ModelError("model.name", what, remedy)


def _first(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _unread(model: Any, loading: Mapping[str, Any], checkpoint: Checkpoint) -> list[str]:
    """Tensors that went nowhere. transformers leaves out of its report what a family's class tells it to ignore."""
    ignored = {*(model._keys_to_ignore_on_load_unexpected or ()), r"rotary_emb\.inv_freq", r"position_ids$"}
    hidden = re.compile("|".join(f"({pattern})" for pattern in sorted(ignored)))
    own, prefix = set(model.state_dict()), f"{model.base_model_prefix}."
    candidates = [name for name in checkpoint.tensors if hidden.search(name)]
    dropped = {name for name in candidates if not {name, prefix + name, name.removeprefix(prefix)} & own}
    return sorted({*loading["unexpected_keys"], *dropped}, key=_in_order)


def _in_order(name: str) -> list[tuple[int, str]]:
    """Block 2 before block 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def _is_mask(stored: Stored, *_: Any) -> bool:
    """[1, 1, seq, seq], or the one number that stood for minus infinity."""
    return (len(stored.shape) == 4 and stored.shape[:2] == (1, 1)) or stored.shape in ((), (1,))


def _is_count(stored: Stored, *_: Any) -> bool:
    return stored.whole


def _same_frequencies(_: Stored, name: str, checkpoint: Checkpoint, model: Any) -> bool:
    """Whether the model's own rotary frequencies are these, as far as half precision tells.

    Where the configuration scales them the stored ones may be those before scaling; then nothing is compared.
    """
    own = next((b for at, b in model.named_buffers() if at.endswith("rotary_emb.inv_freq")), None)
    rotary = getattr(model.config, "rope_parameters", None) or {}
    if own is None or rotary.get("rope_type", "default") != "default":
        return True
    stored = checkpoint.value(name).float()
    return stored.shape == own.shape and torch.allclose(stored, own.float().cpu(), rtol=1e-2, atol=1e-4)


_Test = Callable[[Stored, str, Checkpoint, Any], bool]
_HARMLESS: tuple[tuple[str, _Test], ...] = (
    # buffers of older versions, which are now computed from the configuration
    (r"rotary\w*\.inv_freq$", _same_frequencies),
    (r"(^|\.)(attn|attention)\.(bias|masked_bias)$", _is_mask),  # causal masks of GPT-2, GPT-J, GPT-NeoX
    (r"(^|\.)position_ids$", _is_count),
    (r"(^|\.)decoder\.version$", lambda *_: True),  # fairseq's mark in OPT checkpoints
    # the way in of images and sound, which text does not pass
    (
        r"^(model\.)?(vision_tower|vision_model|visual|audio_tower|multi_modal_projector|mm_projector)\.",
        lambda *_: True,
    ),
)


def _harmless(name: str, checkpoint: Checkpoint, model: Any) -> bool:
    stored = checkpoint.tensors.get(name)
    if stored is None:  # reported under the name that transformers would give it
        return False
    return any(re.search(pattern, name) and test(stored, name, checkpoint, model) for pattern, test in _HARMLESS)


_QUANTISED = re.compile(
    r"(\.|_)(weight_scale(_inv)?|input_scale|weight_packed|weight_format|SCB|CB|qweight|qzeros|scales|zeros|g_idx"
    r"|absmax|nested_absmax|quant_map|nested_quant_map|quant_state\.\w+)$"
)
_HEADS = re.compile(r"^(score|classifier|classification_head|qa_outputs|pre_classifier|reward_head|value_head)\.")
_ADAPTER = re.compile(r"(^|\.)(lora_|ia3_|hada_|oft_|vera_)|\.base_layer\.|\.modules_to_save\.")


def _check_kinds(model: Any, unread: Sequence[str], checkpoint: Checkpoint, architecture: Architecture) -> None:
    """Unread tensors whose names tell what the checkpoint is. Raises ModelError."""
    if getattr(model, "hf_quantizer", None) is None:
        coded = [name for name in unread if _QUANTISED.search(name)] or [
            name for name, stored in checkpoint.tensors.items()
            if stored.whole and not _harmless(name, checkpoint, model)
        ]  # fmt: skip
        if coded:
            what = f"its checkpoint is quantised ({_first(coded)}), its configuration has no quantization_config"
            raise _wrong(what, f"{_REMEDY}, or a checkpoint that is not quantised")
    heads = [name for name in unread if _HEADS.search(name)]
    if heads:
        what = f"its checkpoint holds {_first(heads)}, the head of a classifier: it is no language model"
        raise _wrong(what, "give a checkpoint of the causal language model")
    adapter = [name for name in unread if _ADAPTER.search(name)]
    if adapter:
        what = f"its checkpoint holds {_first(adapter)}, parts of an adapter that was not merged into the weights"
        raise _wrong(what, "merge it (peft's merge_and_unload), or give model.name: BASE with model.adapter: FOLDER")
    beyond = _beyond(unread, architecture.blocks, model.config.num_hidden_layers)
    if beyond:
        layers = model.config.num_hidden_layers
        raise _wrong(f"its configuration has {layers} layers and leaves out the checkpoint's {_first(beyond)}")


def _beyond(names: Iterable[str], blocks: str, layers: int) -> list[str]:
    """Tensors of blocks that the configuration does not have. blocks: what the list of blocks is called."""
    place = re.compile(rf"(^|\.){re.escape(blocks.rpartition('.')[2])}\.(\d+)\.")
    return [name for name in names if (at := place.search(name)) and int(at[2]) >= layers]


def _check_ambiguous(model: Any, checkpoint: Checkpoint) -> None:
    """Two different tensors for one weight: which of them counts would be chance. Raises ModelError."""
    for name, file, other in checkpoint.repeated():
        raise _wrong(f"its weight {name} has other values in {file} than in {other}", "keep one of the files")
    prefix = f"{model.base_model_prefix}."
    for name in checkpoint.tensors:
        if prefix + name in checkpoint.tensors and not checkpoint.same(name, prefix + name):
            raise _wrong(f"its checkpoint holds {name} and another {prefix}{name}", "keep the one that is meant")
    for head, embedding in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        if head not in model.all_tied_weights_keys:  # transformers unties what differs
            what = f"its configuration ties {head} to {embedding}, its checkpoint has different values for them"
            raise _wrong(what, "write tie_word_embeddings: false into its config.json, or take the copy out")
