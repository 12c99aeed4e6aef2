"""Fields that say where an edit is made: its blocks, its heads or neurons, its tokens."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from patchboard.spec.layers import TEXT_PATTERN, canonical_layers
from patchboard.spec.positions import PositionName, check_position
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.spec.sites import HEADED, NEURAL
from patchboard.spec.values import shown

PlainLayers = Annotated[
    Annotated[str, Field(pattern=TEXT_PATTERN)] | int | list[int], BeforeValidator(canonical_layers)
]
"""all, a block, a list of blocks, or from:to:step."""


class Together(Section):
    """``{together: all}``: all these layers edited in one cell, not one cell a layer."""

    together: PlainLayers


class Onwards(Section):
    """``{onwards: all}``: one cell a layer, which edits it and every later block."""

    onwards: PlainLayers = Field(description="the first edited block of each cell")


class Upto(Section):
    """``{upto: all}``: one cell a layer, which edits it and every earlier block."""

    upto: PlainLayers = Field(description="the last edited block of each cell")


Several = Together | Onwards | Upto
"""``layers`` as a mapping: a cell edits several blocks."""


def _layers(value: Any) -> Any:
    return value if isinstance(value, Several) else canonical_layers(value)


def _heads(value: Any) -> Any:
    if isinstance(value, dict):
        raise InvalidValue(f"found {shown(value)}, expected heads", "write all, a head's number, or a list [0, 4]")
    return canonical_layers(value, "head")


def _neurons(value: Any) -> Any:
    if isinstance(value, dict):
        raise InvalidValue(f"found {shown(value)}, expected neurons", "write all, or a list of numbers [3, 17]")
    return canonical_layers(value, "neuron")


def _position(value: Any) -> Any:
    check_position(value)
    return value


# The checks come before the unions, so that a wrong value gets one complaint and not one a branch.
Layers = Annotated[PlainLayers | Several, BeforeValidator(_layers)]
Position = Annotated[PositionName | int | list[PositionName | int], BeforeValidator(_position)]
Heads = Annotated[Annotated[str, Field(pattern=TEXT_PATTERN)] | int | list[int], BeforeValidator(_heads)]
"""Heads of a block, written as layers are."""
Neurons = Annotated[Annotated[str, Field(pattern=TEXT_PATTERN)] | int | list[int], BeforeValidator(_neurons)]
"""Neurons of a block's MLP, written as layers are."""


def check_parts(site: str, heads: Any, neurons: Any) -> None:
    """Raises InvalidValue for heads or neurons beside a site that has none."""
    for field, value, sites in (("heads", heads, HEADED), ("neurons", neurons, NEURAL)):
        if site not in sites and value != "all":
            remedy = f"write site: {' or '.join(sites)}, or leave {field} out"
            raise InvalidValue(f"found {shown(value)} beside site {site}", remedy, (field,))
