"""Which prompts ask the same query, after any number of demonstrations: no probe is tested on one that it saw."""

from __future__ import annotations

from collections.abc import Sequence

from patchboard.errors import SpecError
from patchboard.plan.model import Decoding
from patchboard.probes import FOLDS
from patchboard.tasks.prompt import Prompt


def query_tokens(prompt: Prompt, shots: int) -> tuple[int, ...]:
    """Ids of the input whose answer comes after ``shots`` demonstrations: the query's, or a later demonstration's."""
    answers = prompt.demo_answers
    if shots >= len(answers):
        at = prompt.positions["query"]
    else:
        start = answers[shots - 1][-1] if shots else -1
        at = [token for token in prompt.positions["demo_inputs"] if start < token < answers[shots][0]]
    return tuple(prompt.token_ids[token] for token in at)


def before_answer(prompt: Prompt, shots: int) -> int:
    """The token before the answer that comes after ``shots`` demonstrations."""
    demos = prompt.positions["before_answers"]
    return demos[shots] if shots < len(demos) else prompt.last


def query_groups(prompts: Sequence[Prompt], shots: int) -> list[int]:
    """[prompt] a number for each different query, in their order of appearance."""
    numbers: dict[tuple[int, ...], int] = {}
    return [numbers.setdefault(query_tokens(prompt, shots), len(numbers)) for prompt in prompts]


def points_of(decoding: Decoding) -> list[Prompt]:
    """The decoded prompts in the order of their states: label by label, excluded ones left out."""
    return [prompt for rows in decoding.prompts.values() for prompt in rows if not prompt.excluded]


def check_queries(decoding: Decoding) -> None:
    """As ``check_folds``, where the decoding has probes."""
    for shots in decoding.section.shots if decoding.section.probes else ():
        check_folds(points_of(decoding), shots, "decodability.probes", "decodability.prompts")


def check_folds(prompts: Sequence[Prompt], shots: int, where: str, more: str) -> None:
    """Raises SpecError where there are fewer different queries than folds to part them into. more: the field by which
    there would be more."""
    count = len(set(query_groups(prompts, shots)))
    if count < FOLDS:
        what = f"{count} different queries after {shots} demonstrations, and {FOLDS} folds share none"
        raise SpecError(where, what, f"use more data, more {more}, or leave it out")
