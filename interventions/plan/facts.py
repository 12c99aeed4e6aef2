"""What planning needs of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelFacts:
    """What planning needs of a model: read from its configuration, not from weights."""

    family: str
    layers: int
    width: int
    vocab: int
    mlp: int = 0
    """Inner width of its MLPs, all of a token's experts together; 0: four times ``width``."""
    heads: int = 0
    head_dim: int = 0
    sites: tuple[str, ...] = ("resid_pre", "attn_out", "mlp_out", "resid_post")
    """Sites that its blocks have."""
    packs: bool = True
    """Whether its attention takes a mask, so that copies can share a sequence."""
    context: int = 0
    """Tokens that a sequence may have; 0 where the configuration names no limit."""
    rotary_limit: int = 0
    """Tokens of a sequence beyond which its rotary frequencies depend on what else is in the pass; 0: they never do."""
    notes: tuple[str, ...] = ()
    """What a user should know of the model, told with the plan and in the report."""
