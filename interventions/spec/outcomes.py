"""The spec's section on what is kept of single queries, beside each metric's value."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from patchboard.spec.section import Section


class OutcomesSection(Section):
    """Kept of the queries that the report's page shows, of every intervention's own cells and of the unedited run."""

    top_tokens: Annotated[int, Field(ge=1, le=50)] | None = Field(
        default=None,
        description="how many of the likeliest next tokens are kept, with their log-probabilities and the"
        " answer's rank, see [top tokens](run-folder.md#top_tokensparquet); null: none",
    )
