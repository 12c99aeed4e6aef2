"""The parts of a block's states that are edited by themselves: heads and neurons, how many and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patchboard.engine.families import Architecture, head_dim_of, mlp_width_of


def kv_heads_of(config: Any) -> int:
    """Heads of keys and values of a block: fewer than the queries' where several of these share one."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1  # Falcon 7B: its num_kv_heads is another layout's
    named = (getattr(config, name, None) for name in ("num_key_value_heads", "num_kv_heads"))
    return next(filter(None, named), None) or getattr(config, "num_attention_heads", 0)


def neurons_of(config: Any) -> int:
    """Inner width of a block's MLP, where it is one for all tokens."""
    return mlp_width_of(config) or 4 * config.hidden_size


def projections_of(config: Any, architecture: Architecture) -> int:
    """Numbers in the projections of a block's attention, or of its mixer where it has none (Mamba-2's: in, of its two
    halves, what the scan takes and the steps; and out)."""
    if not architecture.attention_out:
        inner = int(config.expand * config.hidden_size)
        taken = 2 * config.n_groups * config.state_size + config.num_heads
        return config.hidden_size * (2 * inner + taken) + inner * config.hidden_size
    return 2 * config.hidden_size * head_dim_of(config) * (config.num_attention_heads + kv_heads_of(config))


def other_mlps_of(config: Any) -> tuple[tuple[int, int], ...]:
    """(block, inner width) of the blocks without experts in a model that has some (Qwen 3's, by two settings)."""
    step, dense = getattr(config, "decoder_sparse_step", 1), getattr(config, "mlp_only_layers", None) or ()
    if not getattr(config, "num_experts_per_tok", None):
        return ()
    blocks = [block for block in range(config.num_hidden_layers) if block in dense or (block + 1) % step]
    return tuple((block, config.intermediate_size) for block in blocks)


def slots_of(architecture: Architecture, heads: int, kv_heads: int) -> dict[str, tuple[int, ...]]:
    """Site -> for each head, which piece of head_dim numbers of its module's output (or input) is the head's."""
    shared = heads // kv_heads if kv_heads else 0
    slots: dict[str, Sequence[int]] = {
        "q": range(heads),
        "k": range(kv_heads),
        "v": range(kv_heads),
        "pattern": range(heads),
        "head": range(heads),
    }
    if architecture.fused == "parts":
        slots |= {"k": range(heads, heads + kv_heads), "v": range(heads + kv_heads, heads + 2 * kv_heads)}
    if architecture.fused == "groups":
        starts = range(0, kv_heads * (shared + 2), shared + 2)
        slots["q"] = [start + i for start in starts for i in range(shared)]
        slots |= {"k": [start + shared for start in starts], "v": [start + shared + 1 for start in starts]}
    return {site: tuple(each) for site, each in slots.items()}
