"""prompts.parquet: every prompt of a run, so that any outcome can be recomputed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from interventions.plan.model import ModelPlan
from interventions.store.schema import PROMPTS
from tasks.prompts import Prompt


def prompt_table(plans: Sequence[ModelPlan]) -> pl.DataFrame:
    """Rows of store.schema.PROMPTS; ``set`` says which group, fit or decoding a row belongs to, ``swept`` of what."""
    rows: list[tuple] = []
    for plan in plans:
        for group in plan.groups:
            rows += _rows("evaluate", plan, group.id, group.task, group.shots, group.prompts)
        for fit in plan.fits:
            for task, prompts in fit.prompts.items():
                rows += _rows("fit", plan, fit.id, task, fit.shots, prompts)
        for decoding in plan.decodings:
            for task, prompts in decoding.prompts.items():
                rows += _rows("decodability", plan, decoding.id, task, max(decoding.section.shots), prompts)
    return pl.DataFrame(rows, schema=PROMPTS, orient="row")


def _rows(role: str, plan: ModelPlan, set_id: str, task: str, shots: int, prompts: Iterable[Prompt]) -> list[tuple]:
    belongs = set_id, " or ".join(plan.swept[set_id])
    return [
        (role, task, i, shots, p.text, p.answer, list(p.token_ids), list(p.answer_ids), p.last, p.excluded, *belongs)
        for i, p in enumerate(prompts)
    ]
