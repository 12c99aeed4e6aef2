"""What planning needs of a model."""

from __future__ import annotations

from dataclasses import dataclass

from patchboard.spec.sites import HEADED, NEURAL


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
    sparse: bool = False
    """Whether its attention, in this process, can leave out the pairs that packs mask (``engine.block_sparse``)."""
    context: int = 0
    """Tokens that a sequence may have; 0 where the configuration names no limit."""
    rotary_limit: int = 0
    """Tokens of a sequence beyond which its rotary frequencies depend on what else is in the pass; 0: they never do."""
    kv_heads: int = 0
    """Heads of keys and values: fewer than ``heads`` where several of these share one."""
    projections: int = 0
    """Numbers in the projections of a block's attention, or of its mixer where it has none; 0: four times ``width``
    squared."""
    mlps: int = 3
    """Matrices of ``width`` x ``mlp`` in an MLP: three of a gated one, else two, none where blocks have no MLP."""
    other_mlps: tuple[tuple[int, int], ...] = ()
    """(block, inner width) of the MLPs that are not of width ``mlp``."""
    neurons: int = 0
    """Inner width of its MLPs, where a token goes through one."""
    notes: tuple[str, ...] = ()
    """What a user should know of the model, told with the plan and in the report."""

    @property
    def inside(self) -> int:
        """Numbers that a token has inside an MLP, at the widest of what a block computes."""
        return self.mlp or 4 * self.width

    def width_at(self, site: str) -> int:
        """Numbers of a token's state there; at sites by head, of one head's part."""
        return self.head_dim if site in HEADED else self.neurons if site in NEURAL else self.width

    def heads_at(self, site: str) -> int:
        """Heads whose parts a state has there, 0 at sites that have none."""
        return 0 if site not in HEADED else self.kv_heads if site in ("k", "v") else self.heads
