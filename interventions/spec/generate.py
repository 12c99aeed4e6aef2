"""The spec's section on texts: which cells' edits are made while the model goes on from a prompt, and for how long."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from patchboard.spec.places import PlainLayers
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Count, Differing, Section

When = Literal["prompt", "decode", "both"]


class GenerateSection(Section):
    """The model goes on from evaluated prompts, unedited and under the edits of each of these cells: both texts are
    kept beside each other, with measures of them."""

    tokens: Count = Field(default=40, description="new tokens of a text, at most: the model may end it before")
    samples: Count = Field(default=1, description="texts of each prompt and cell, where tokens are drawn")
    temperature: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="0: the likeliest token each time; else tokens are drawn by `prompts.seed`, and logits divided by"
        " it",
    )
    when: When = Field(
        default="both",
        description="prompt: the prompt's tokens that `position` names are edited; decode: each new token as it is fed"
        " in; both",
    )
    prompts: Count = Field(default=8, description="evaluated prompts of each task, the first that can be used")
    interventions: Annotated[list[str], Field(min_length=1), Differing] | None = Field(
        default=None, description="their names; null: all"
    )
    layers: PlainLayers = Field(default="all", description="[layers](#layers) at which the chosen cells stand")
    controls: bool = Field(default=False, description="the cells of controls too, but for `self`, which edits nothing")

    @model_validator(mode="after")
    def _samples_differ(self) -> GenerateSection:
        if self.samples > 1 and self.temperature == 0:
            what = f"found {self.samples} at temperature 0, which gives one text again and again"
            raise InvalidValue(what, "set temperature: 1, or leave samples out", ("samples",))
        return self
