"""Where things stand in each model family: module paths as data, one row a family.

To add a family: one row, then run ``pytest tests/parity``, which takes its cases from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interventions.errors import ModelError
from interventions.registry import suggest

SITES = ("resid_pre", "attn_out", "mlp_out", "resid_post")
"""In the order in which a block computes them: nnsight wants them visited so."""


@dataclass(frozen=True)
class Architecture:
    """Module paths of one family, as its ``transformers`` class names them."""

    model_type: str  # config.model_type
    decoder: str = "model"  # the stack of blocks, from the causal language model
    blocks: str = "layers"  # from the decoder
    norm: str = "norm"  # final norm, from the decoder
    head: str = "lm_head"  # from the causal language model
    attention: str = "self_attn"  # from a block
    mlp: str = "mlp"
    sliding: bool = False
    """Takes its mask as a dictionary {full_attention, sliding_attention}."""


ARCHITECTURES = {
    row.model_type: row
    for row in (
        Architecture("llama"),
        Architecture("gemma2", sliding=True),
        Architecture("gpt2", decoder="transformer", blocks="h", norm="ln_f", attention="attn"),
    )
}


def architecture_of(config: Any) -> Architecture:
    """The family's row. Raises ModelError for a family that has none."""
    if config.model_type not in ARCHITECTURES:
        raise ModelError(
            "model.name",
            f"its family '{config.model_type}' is not one of {', '.join(sorted(ARCHITECTURES))}",
            f"{suggest(config.model_type, ARCHITECTURES)} or add a row to interventions/engine/families.py",
        )
    return ARCHITECTURES[config.model_type]


def at_path(root: Any, path: str) -> Any:
    """``root.a.b`` for ``"a.b"``, on modules and on nnsight's envoys alike."""
    for name in path.split("."):
        root = getattr(root, name)
    return root


def check_architecture(model: Any, architecture: Architecture) -> None:
    """Hold the row against the loaded model. Raises ModelError naming the first path that isn't there."""
    for path in (
        f"{architecture.decoder}.{architecture.blocks}.0.{architecture.attention}",
        f"{architecture.decoder}.{architecture.blocks}.0.{architecture.mlp}",
        f"{architecture.decoder}.{architecture.norm}",
        architecture.head,
    ):
        try:
            at_path(model, path)
        except AttributeError:
            raise ModelError(
                "model.name",
                f"{type(model).__name__} has no module '{path}'",
                f"correct the row '{architecture.model_type}' in interventions/engine/families.py",
            ) from None
    blocks = at_path(model, f"{architecture.decoder}.{architecture.blocks}")
    declared = model.config.num_hidden_layers
    if len(blocks) != declared:
        raise ModelError(
            "model.name", f"its configuration says {declared} layers, it has {len(blocks)}", "mend the checkpoint"
        )
