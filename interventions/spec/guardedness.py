"""The spec's section on what probes still find after an edit that erases."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from patchboard.spec.section import Count, Differing, Section, Shots


class GuardednessSection(Section):
    """After every intervention that erases (op `ablate`), fresh probes are fitted on the states of the edited run, at
    the edited layer and all later ones: on the prompts that the subspace was fitted on, and on held-out ones."""

    probes: Annotated[list[str], Field(min_length=1), Differing] = Field(
        default=["logistic", "knn"], description="see [probes](#probes)"
    )
    k: Count = Field(default=10, description="neighbours that vote, of `knn`")
    prompts: Count = Field(default=100, description="held-out prompts a label")
    shots: Shots | None = Field(
        default=None, description="demonstrations of a held-out prompt; null: as the subspace was fitted"
    )
