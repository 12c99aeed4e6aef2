"""Fields of vectors that are learned through the model, and which kind has which of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import Field

from patchboard.spec.section import Count, Section, Seed

_LEARNING = ("steps", "batch", "learning_rate", "patience", "seed")
LEARNED: dict[str, tuple[str, ...]] = {"das": (*_LEARNING, "boundless"), "steer": (*_LEARNING, "norm")}
"""Kinds of vector that are learned -> their further fields."""

LEARNED_FIELDS = tuple(dict.fromkeys(field for fields in LEARNED.values() for field in fields))


class LearnedFields(Section):
    """What a section on vectors has for those that are learned."""

    das: str | None = Field(
        default=None,
        description="a rotation learned on counterfactual pairs: other_task, or a source of the rows, whose state in"
        " the subspace is to bring its answer",
    )
    steer: str | None = Field(
        default=None,
        description="learned to bring the answers of same_task, other_task or a task's name when it is added",
    )
    steps: Count = Field(default=200, description="of das and steer: steps of the optimiser, at most")
    batch: Count = Field(default=16, description="of das and steer: pairs or prompts of a step")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        default=0.05,
        description="of das and steer: about how far a step goes at first, of das in radians, of steer in shares of"
        " `norm`; it falls to 0 over the steps",
    )
    patience: Count = Field(
        default=3,
        description="of das and steer: looks at the held-out pairs, ten steps apart, without a gain; then it ends",
    )
    seed: Seed = Field(
        default=0, description="of das and steer: of the first rotation, the steps' pairs and those held out"
    )
    norm: Annotated[float, Field(gt=0)] = Field(
        default=1.0, description="of steer: its greatest length, in lengths of the mean state of its prompts"
    )
    boundless: bool = Field(
        default=False, description="of das: whether it learns how many dimensions it needs, `rank` at most"
    )


def unmeant(kind: str, given: Collection[str], fields: Collection[str]) -> str | None:
    """The first of the ``given`` fields that vectors of that kind do not have; fields: all that may be so."""
    own = LEARNED.get(kind, ())
    return next((field for field in fields if field in given and field not in own), None)


def of_kind(kind: str, dumped: dict[str, Any]) -> dict[str, Any]:
    """The section without what vectors of its kind do not have, so that specs of before keep their digests."""
    left_out = {*LEARNED_FIELDS, *LEARNED} - {kind, *LEARNED.get(kind, ())}
    return {name: value for name, value in dumped.items() if name not in left_out}
