"""The spec's section on screening: which cells are estimated first, and how many of them are then run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from patchboard.spec.section import Count, Section


class ScreenSection(Section):
    """Cells of one edit that puts in a state of another prompt are estimated by gradients, all of a task in a few
    passes; the largest and a random sample of the others are run exactly, the rest is not run."""

    method: Literal["attribution", "integrated_gradients"] = Field(
        default="attribution",
        description="attribution: gradients of the clean run; integrated_gradients: their mean over points between the"
        " embeddings of the prompt and of its source, which must have as many tokens",
    )
    keep: Count = Field(default=200, description="cells of a task's prompts, of the largest estimates, that are run")
    sample: Annotated[int, Field(ge=0)] = Field(
        default=50, description="of the others, drawn by `prompts.seed`, that are run too: they tell what was missed"
    )
    steps: Count = Field(default=5, description="of integrated_gradients: points between the two")
