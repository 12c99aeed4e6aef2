"""Prompt sets: which rows make up the evaluated, fitted and decoded prompts of a family.

Evaluated and decoded prompts draw on one half of the pool, fitted ones on the other. Evaluated and
fitted prompts are matched (query i of every task has the same inputs, other outputs), so that task
differences are not input differences. Decoded prompts are drawn apart for each task: were they
matched, each 0-shot state would have twins of every *other* label and CD would fall below chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from interventions.errors import TaskError
from tasks.base import Family, Item, split_pool
from tasks.prompts import Prompt, Prompter

Role = Literal["evaluate", "fit", "decodability"]
_ROLE_SEED = {"evaluate": 1, "fit": 2, "decodability": 3}


class Halves:
    """A family's pool, split once into rows to fit on and rows to evaluate on."""

    def __init__(self, family: Family, seed: int):
        self.family, self.seed = family, seed
        self.fit, self.evaluate = split_pool(family.pool(seed), seed)

    def rows(self, role: Role, task: str, shots: int, count: int) -> list[list[Item]]:
        """[prompt][row]: ``shots`` demonstrations, then the query; queries differ from each other.

        Evaluated queries are never repeated, so there may be fewer than ``count``; the other roles
        go round the pool again with fresh demonstrations. Raises TaskError where the half is too
        small for a single prompt.
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
        order = np.random.default_rng(base).permutation(len(usable))
        if role == "evaluate":
            order = order[:count]
        prompts = []
        for i in range(min(count, len(order)) if role == "evaluate" else count):
            query = int(order[i % len(order)])
            # drawn once for the most shots a pool allows would tie shots together; a seed a query is enough
            demos = np.random.default_rng([*base, i]).choice(len(usable) - 1, size=shots, replace=False)
            prompts.append([usable[d + (d >= query)] for d in demos] + [usable[query]])
        return prompts

    def prompts(
        self, prompter: Prompter, role: Role, tasks: Sequence[str], shots: int, count: int
    ) -> dict[str, list[Prompt]]:
        """Task -> its prompts; evaluated ones carry the other tasks' answers as alternatives."""
        others = tasks if role == "evaluate" else ()
        return {
            task: prompter.prompts(task, self.rows(role, task, shots, count), others=others) for task in tasks
        }
