"""What a run recommends, from its outcomes."""

from __future__ import annotations

from typing import Any

import polars as pl

from patchboard.api.study import Study
from patchboard.errors import SpecError
from patchboard.execution.results import bootstrap_of
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.recommend import Rule, recommendations
from patchboard.measure.summary import without_nan
from patchboard.registry import suggest


def recommended(
    study: Study, outcomes: pl.DataFrame, intervention: str | None, metric: str | None, rule: Rule
) -> list[dict[str, Any]]:
    """``measure.recommend.recommendations`` of a run, ready for JSON. Raises SpecError for what it does not have.

    metric: the spec's first by default.
    """
    indexed = index_outcomes(outcomes)
    names = indexed.cells["intervention"].unique(maintain_order=True).to_list()
    if intervention is not None and intervention not in names:
        raise SpecError("--intervention", f"the run has no intervention '{intervention}'", suggest(intervention, names))
    if intervention is not None:
        indexed = indexed.where(pl.col("intervention") == intervention)
    first = study.points[0].spec.metrics[0]
    return [without_nan(entry) for entry in recommendations(indexed, metric or first, rule, bootstrap_of(study))]
