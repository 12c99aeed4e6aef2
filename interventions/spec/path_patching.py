"""The sections of ``op: path``: what sends, what receives, what is held in between."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from patchboard.spec.head_pairs import HeadPairs
from patchboard.spec.places import Heads, Layers, Neurons, Position, check_parts
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.spec.sites import HEADED, PATTERN, Site
from patchboard.spec.values import shown

Frozen = Literal["none", "heads", "heads+mlps"]


def _check_state(site: str, does: str) -> None:
    """Raises InvalidValue for a site without a state."""
    if site == PATTERN:
        raise InvalidValue(
            f"found {PATTERN}, and attention weights are no state that {does}", "write head, q or k", ("site",)
        )


class SenderSection(Section):
    """``{site: head, layers: all}``: what is taken from the source, one cell a block and head."""

    site: Site = "head"
    layers: Layers = "all"
    heads: Heads = Field(default="all", description="of sites q, k, v and head, one cell a head")
    neurons: Neurons = Field(default="all", description="of sites mlp_pre and mlp_act; sent together")
    position: Position = "last"

    @model_validator(mode="after")
    def _parts_of_their_sites(self) -> Self:
        _check_state(self.site, "sends")
        check_parts(self.site, self.heads, self.neurons)
        return self


class ReceiverSection(Section):
    """``{site: q, heads: [[9, 6]]}``: what the change is felt through, and nothing else."""

    site: Site = "resid_post"
    layer: int | None = Field(default=None, description="the block; default: the last one. Not at sites by head")
    heads: HeadPairs = Field(default=None, description="at sites by head: pairs of a layer and a head")
    position: Position = "last"

    @model_validator(mode="after")
    def _told_by_what_it_has(self) -> Self:
        _check_state(self.site, "receives")
        if self.site in HEADED and self.heads is None:
            raise InvalidValue(f"is missing at site {self.site}", "write pairs as in [[9, 6], [10, 0]]", ("heads",))
        for field, stray in (("layer", self.site in HEADED), ("heads", self.site not in HEADED)):
            if stray and getattr(self, field) is not None:
                what = f"found {shown(getattr(self, field))} at site {self.site}"
                raise InvalidValue(what, "write heads: [[layer, head]] at sites by head, layer at others", (field,))
        return self
