"""prompts.parquet: every prompt of a run, so that any outcome can be recomputed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import polars as pl

from patchboard.plan.model import ModelPlan
from patchboard.store.schema import PROMPTS
from patchboard.tasks.prompt import Prompt

_ROWS_AT_ONCE = 1024
"""Rows that are made at once: as Python's lists of numbers they take ten times what the table does."""


def prompt_tables(plans: Sequence[ModelPlan]) -> Iterator[pl.DataFrame]:
    """Pieces of store.schema.PROMPTS; ``set`` says which group, fit or decoding a row belongs to, ``swept`` of what."""
    for plan in plans:
        for group in plan.groups:
            yield from _tables(group.role, plan, group.id, group.task, group.shots, group.prompts)
        for fit in plan.fits:
            for task, prompts in fit.prompts.items():
                yield from _tables("fit", plan, fit.id, task, fit.shots, prompts)
        for decoding in plan.decodings:
            for task, prompts in decoding.prompts.items():
                yield from _tables("decodability", plan, decoding.id, task, max(decoding.section.shots), prompts)
        for guarding in plan.guardings:
            for task, prompts in guarding.prompts.items() if guarding.half == "held_out" else ():
                yield from _tables("guardedness", plan, guarding.id, task, guarding.shots, prompts)


def _tables(
    role: str, plan: ModelPlan, set_id: str, task: str, shots: int, prompts: Sequence[Prompt]
) -> Iterator[pl.DataFrame]:
    belongs = set_id, " or ".join(plan.swept[set_id])
    for start in range(0, len(prompts), _ROWS_AT_ONCE):
        rows = [
            (
                role,
                task,
                i,
                shots,
                p.text,
                p.answer,
                p.token_ids,
                p.answer_ids,
                *_all_right(p),
                p.last,
                p.starts or None,
                _places(p),
                p.excluded,
                *belongs,
            )
            for i, p in enumerate(prompts[start : start + _ROWS_AT_ONCE], start)
        ]
        yield pl.DataFrame(rows, schema=PROMPTS, orient="row")


def _places(prompt: Prompt) -> str:
    return json.dumps({name: [*at] for name, at in prompt.positions.items() if name not in ("all", "answer")})


def _all_right(prompt: Prompt) -> tuple[list[str] | None, list[tuple[int, ...]] | None]:
    """Texts and ids of all right answers to the query, where there are several."""
    more = prompt.more.get(prompt.task)
    return ([prompt.answer, *(answer.text for answer in more)], [*prompt.right()]) if more else (None, None)
