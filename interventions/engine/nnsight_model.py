"""What traces of a model need beside it: nnsight, its wiring, the path of its embeddings."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch

from patchboard.engine.families import architecture_of, head_dim_of, tail_of
from patchboard.engine.parts import kv_heads_of, neurons_of, slots_of
from patchboard.engine.wiring import Wiring


def import_nnsight() -> Any:
    """nnsight. It mounts ``save`` on object; anyio must come first, or not at all."""
    with suppress(TypeError):
        import anyio._backends._asyncio  # noqa: F401
    import nnsight

    return nnsight


def wiring_of(config: Any, dtype: torch.dtype) -> Wiring:
    """What the trace code must know of a model of this configuration. Raises ModelError."""
    architecture, window = architecture_of(config), getattr(config, "sliding_window", None) or 0
    read_out = config.vocab_size, tail_of(config)
    if not architecture.attention_out:  # a state-space model has no heads
        return Wiring(architecture, window, {}, 0, 0, dtype, *read_out)
    slots = slots_of(architecture, config.num_attention_heads, kv_heads_of(config))
    return Wiring(architecture, window, slots, head_dim_of(config), neurons_of(config), dtype, *read_out)


def embedding_of(model: Any) -> str:
    """Path of the input embeddings' module in a causal language model."""
    embedding = model.get_input_embeddings()
    return next(path for path, module in model.named_modules() if module is embedding)
