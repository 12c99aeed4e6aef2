"""What can be told of a model without torch, transformers or a network: from the config.json that is here already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from patchboard.engine.families import ARCHITECTURES, sites_of
from patchboard.engine.source import looks_like_a_path, source_of
from patchboard.engine.unpacked import is_unpacked
from patchboard.plan.facts import ModelFacts
from patchboard.spec.sections import EMBEDDED, ModelSection
from patchboard.user_paths import expanded

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads")
_WIDTH = ("hidden_size", "n_embd", "d_model")
_NEURONS = ("intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner")
"""How configurations of several families call the same number."""


def facts_at_home(section: ModelSection) -> ModelFacts | None:
    """Family, layers, heads and sites; None where no configuration is here, or none that tells them.

    Raises ModelError for a path at which there is something else than a model.
    """
    named = section.name
    if named != EMBEDDED and looks_like_a_path(named) and not expanded(named).exists():
        return None  # of another machine, perhaps
    source, place = source_of(section)
    if section.packaged is not None and not is_unpacked(section.packaged):
        return None
    if "gguf_file" in place:
        from patchboard.engine.load import facts_of, open_config  # imports transformers

        return facts_of(section, open_config(section))
    file = Path(source) / "config.json" if Path(source).is_dir() else _cached(source, section.revision)
    return None if file is None else _facts(file)


def _cached(name: str, revision: str) -> Path | None:
    """The file in the Hub's cache on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def _facts(file: Path) -> ModelFacts | None:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    family = str(config.get("model_type")) if isinstance(config, dict) else ""
    row = ARCHITECTURES[family] if family in ARCHITECTURES else None
    layers = _first(config, _LAYERS) if row else None
    if row is None or layers is None:
        return None
    heads = _first(config, _HEADS) or 0
    sites = sites_of(row, config.get("clip_qkv") is not None)
    width = _first(config, _WIDTH) or 0
    neurons = _first(config, _NEURONS) or 4 * width
    shared = 1 if config.get("multi_query") and not config.get("new_decoder_architecture") else None
    kv_heads = shared or _first(config, _KV_HEADS) or heads
    return ModelFacts(
        row.model_type, layers, width, 0, heads=heads, sites=sites, kv_heads=kv_heads, neurons=neurons
    )  # fmt: skip


def _first(config: dict[str, Any], names: tuple[str, ...]) -> int | None:
    return next((config[name] for name in names if isinstance(config.get(name), int)), None)
