"""Names of the places in a block at which an edit can be made, and their kinds."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator

from patchboard.spec.refusal import InvalidValue

SiteName = Literal[
    "resid_pre", "q", "k", "v", "pattern", "head", "attn_out", "mlp_pre", "mlp_act", "mlp_out", "resid_post"
]  # fmt: skip
SITES: tuple[str, ...] = get_args(SiteName)
"""In the order in which a block computes them; where attention and MLP run side by side, attention is first."""
HEADED = ("q", "k", "v", "pattern", "head")
"""Sites that are edited by head, one cell a head."""
PATTERN = "pattern"
"""The weights with which a head attends: no state, so that only those of another run can be put there."""
NEURAL = ("mlp_pre", "mlp_act")
"""Sites that are edited by neuron, a set of them in a cell."""

_ELSEWHERE = {
    "embed": ("the embeddings' output is the first block's input", "write site: resid_pre, layers: 0"),
    "attn": ("the weights of attention are called pattern", "write site: pattern"),
    "z": ("a head's output before the projection is called head", "write site: head"),
}
"""What the field calls a place that has a name here already."""


def _site(value: Any) -> Any:
    if isinstance(value, str) and value in _ELSEWHERE:
        what, remedy = _ELSEWHERE[value]
        raise InvalidValue(f"found {value}, and {what}", remedy)
    return value


Site = Annotated[SiteName, BeforeValidator(_site)]
