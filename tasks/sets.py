"""Prompt sets: which rows make up the evaluated, fitted and decoded prompts of a family.

Evaluated and decoded prompts draw on one half of the pool, fitted ones on the other. Evaluated and
fitted prompts are matched (query i of every task has the same inputs, other outputs), so that task
differences are not input differences. Decoded prompts are drawn apart for each task, and with
replacement: were they matched, or no query repeated within a task, then a state that tells the query and
not the task would have twins of every label but its own, and CD would fall to zero instead of chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np

from patchboard.errors import TaskError
from patchboard.tasks.base import Family, Item, distinct, normal_form, split_pool
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter

Role = Literal["evaluate", "fit", "decodability"]
_ROLE_SEED = {"evaluate": 1, "fit": 2, "decodability": 3}
_LABELS_SEED = 4


class Halves:
    """A family's pool, split once into rows to fit on and rows to evaluate on."""

    def __init__(self, family: Family, seed: int):
        self.family, self.seed = family, seed
        pool, self.merged = distinct(family.pool(seed))
        self.fit, self.evaluate = split_pool(pool, seed)

    def describe(self) -> dict[str, Any]:
        """The family's facts for the manifest, with ``merged_inputs`` where any were."""
        merged = {"merged_inputs": asdict(self.merged)} if self.merged.inputs else {}
        return {**self.family.describe(), **merged}

    def rows(self, role: Role, task: str, shots: int, count: int, shared: bool = False) -> list[list[Item]]:
        """[prompt][row]: ``shots`` demonstrations, then the query, all of them different.

        Evaluated queries are never repeated, so there may be fewer than ``count`` (``measure.notes`` tells
        it); fitted ones go round the pool again with fresh demonstrations, decoded ones are drawn with
        replacement. shared: all evaluated prompts have the same demonstrations. Raises TaskError where the
        half is too small for a single prompt.
        """
        half = self.fit if role == "fit" else self.evaluate
        usable = [item for item in half if task in item.answers]
        if len(usable) < shots + 1:
            raise TaskError(
                "tasks",
                f"task {task} has {len(usable)} rows in its {'fit' if role == 'fit' else 'evaluate'} half, "
                f"a prompt of {shots} shots needs {shots + 1}",
                "use fewer shots or more data",
            )
        apart = [self.family.tasks.index(task)] if role == "decodability" else []
        base = [self.seed, _ROLE_SEED[role], *apart]
        rng = np.random.default_rng(base)
        if role == "decodability":
            queries = rng.integers(len(usable), size=count)
        else:
            order = rng.permutation(len(usable))
            if shared:
                same = [usable[i] for i in order[:shots]]
                return [[*same, usable[query]] for query in order[shots : shots + count]]
            queries = order[:count] if role == "evaluate" else np.resize(order, count)
        prompts = []
        for i, query in enumerate(map(int, queries)):
            drawn = np.random.default_rng([*base, i])
            told = {normal_form(source.input) for source in usable[query].sources.values()}
            if told:  # a demonstration that is the query's own source would tell that source's answer
                others = [n for n, item in enumerate(usable) if n != query and normal_form(item.input) not in told]
                if len(others) < shots:
                    what = f"a query of {task} and its sources leave fewer rows than the {shots} demonstrations"
                    raise TaskError("tasks", what, "use fewer shots or more data")
                demos = drawn.choice(others, size=shots, replace=False)
            else:
                demos = (d + (d >= query) for d in drawn.choice(len(usable) - 1, size=shots, replace=False))
            prompts.append([usable[d] for d in demos] + [usable[query]])
        return prompts

    def prompts(
        self, prompter: Prompter, role: Role, tasks: Sequence[str], shots: int, count: int,
        others: Sequence[str] = (), shared: bool = False, shuffled: bool = False, asked: Sequence[int] = (),
        corrupted: str | None = None,
    ) -> dict[str, list[Prompt]]:  # fmt: skip
        """Task -> its prompts, which carry their answers under the ``others`` as alternatives.

        shuffled: the outputs of each prompt's demonstrations change places, in all tasks in the same way.
        asked: demonstrations of which all right answers are wanted. corrupted: the source whose inputs stand in the
        queries' place (`corrupted_by`). Raises TaskError for a row that has no such source.
        """
        rows = {task: self.rows(role, task, shots, count, shared) for task in tasks}
        if shuffled:
            for drawn in rows.values():
                drawn[:] = [self._shuffled(row, 0 if shared else i) for i, row in enumerate(drawn)]
        if corrupted is not None:
            for drawn in rows.values():
                drawn[:] = [[*row[:-1], corrupted_by(corrupted, row[-1])] for row in drawn]
        return {task: prompter.prompts(task, drawn, others=others, shots=asked) for task, drawn in rows.items()}

    def _shuffled(self, row: Sequence[Item], number: int) -> list[Item]:
        """The row with its demonstrations' answers deranged; number: of the prompt (one for all that share them)."""
        *demos, query = row
        order = derangement(len(demos), np.random.default_rng([self.seed, _LABELS_SEED, number]))
        return [Item(demo.input, demos[other].answers) for demo, other in zip(demos, order, strict=True)] + [query]


BASE = "base"
"""The source that a corrupted row has: itself, as it was."""


def corrupted_by(name: str, item: Item) -> Item:
    """The input of a row's source with the row's own answers and foils; the row as it was is its source ``base``.

    Raises TaskError where the row has no such source.
    """
    if name not in item.sources:
        raise TaskError("prompts.corrupted", f"a row has no source '{name}': {item.input[:60]!r}", "give it one")
    others = {other: source for other, source in item.sources.items() if other != name}
    source = item.sources[name]
    return replace(item, input=source.input, spans=source.spans, sources={BASE: replace(item, sources={}), **others})


def derangement(size: int, rng: np.random.Generator) -> list[int]:
    """A permutation of ``range(size)`` (of 2 or more) that leaves nothing in its place, each as likely as any other.

    Permutations are drawn until one does; more than a third of them do, of whatever size.
    """
    assert size > 1, "refused by PromptsSection"
    while True:
        order = rng.permutation(size)
        if (order != np.arange(size)).all():
            return order.tolist()
