"""Prompt sets: which rows make up the evaluated, fitted and decoded prompts of a family.

Evaluated and decoded prompts draw on one half of the pool, fitted ones on the other. Evaluated and
fitted prompts are matched (query i of every task has the same inputs, other outputs), so that task
differences are not input differences. Decoded prompts are drawn apart for each task, and with
replacement: were they matched, or no query repeated within a task, then a state that tells the query and
not the task would have twins of every label but its own, and CD would fall to zero instead of chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np

from patchboard.errors import TaskError
from patchboard.tasks.base import Family, Item, distinct, split_pool
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
            demos = np.random.default_rng([*base, i]).choice(len(usable) - 1, size=shots, replace=False)
            prompts.append([usable[d + (d >= query)] for d in demos] + [usable[query]])
        return prompts

    def prompts(
        self, prompter: Prompter, role: Role, tasks: Sequence[str], shots: int, count: int,
        others: Sequence[str] = (), shared: bool = False, shuffled: bool = False, asked: Sequence[int] = (),
    ) -> dict[str, list[Prompt]]:  # fmt: skip
        """Task -> its prompts, which carry their answers under the ``others`` as alternatives.

        shuffled: the outputs of each prompt's demonstrations change places, in all tasks in the same way.
        asked: demonstrations of which all right answers are wanted.
        """
        rows = {task: self.rows(role, task, shots, count, shared) for task in tasks}
        if shuffled:
            for drawn in rows.values():
                drawn[:] = [self._shuffled(row, 0 if shared else i) for i, row in enumerate(drawn)]
        return {task: prompter.prompts(task, drawn, others=others, shots=asked) for task, drawn in rows.items()}

    def _shuffled(self, row: Sequence[Item], number: int) -> list[Item]:
        """The row with its demonstrations' answers deranged; number: of the prompt (one for all that share them)."""
        *demos, query = row
        order = derangement(len(demos), np.random.default_rng([self.seed, _LABELS_SEED, number]))
        return [Item(demo.input, demos[other].answers) for demo, other in zip(demos, order, strict=True)] + [query]


def derangement(size: int, rng: np.random.Generator) -> list[int]:
    """A permutation of ``range(size)`` (of 2 or more) that leaves nothing in its place, each as likely as any other.

    Permutations are drawn until one does; more than a third of them do, of whatever size.
    """
    assert size > 1, "refused by PromptsSection"
    while True:
        order = rng.permutation(size)
        if (order != np.arange(size)).all():
            return order.tolist()
