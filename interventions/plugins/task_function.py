"""A task family of one function: seed -> items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from patchboard.errors import TaskError
from patchboard.spec.section import Section
from patchboard.tasks.base import NULL, Item


def family_of(name: str, items: Callable[[int], Sequence[Item]], names: tuple[str, ...]) -> type:
    """The family whose pool ``items(seed)`` gives, with the chosen tasks' answers and a Null of its own.

    Null's answer is another item's under a task drawn by the seed, unless the items have one.
    """

    class FunctionFamily:
        class Options(Section):
            pass

        def __init__(self, tasks: tuple[str, ...]):
            self.tasks = tasks

        @classmethod
        def task_names(cls, options: Any) -> tuple[str, ...]:
            return names

        @classmethod
        def build(cls, options: Any, tasks: tuple[str, ...], embedded: bool) -> FunctionFamily:
            return cls(tasks)

        def data_files(self) -> Sequence[Path]:
            return ()

        def pool(self, seed: int) -> Sequence[Item]:
            drawn = list(items(seed))
            for item in drawn:
                _check_item(name, item, names)
            rng = np.random.default_rng([seed, 0x0F41])
            others = rng.permutation(len(drawn))
            chosen = rng.integers(len(names), size=len(drawn))
            made = []
            for i, item in enumerate(drawn):
                other = drawn[others[i] if others[i] != i else (i + 1) % len(drawn)]
                answers = {**item.answers}
                if NULL in self.tasks and NULL not in answers:
                    known = [other.answers[task] for task in names if task in other.answers]
                    answers[NULL] = known[chosen[i] % len(known)]
                kept = {task: answers[task] for task in self.tasks if task in answers}
                made.append(Item(item.input, kept, {t: more for t, more in item.more.items() if t in kept}))
            return made

        def describe(self) -> dict[str, Any]:
            return {"family": name}

    FunctionFamily.__doc__ = items.__doc__
    FunctionFamily.__name__ = FunctionFamily.__qualname__ = getattr(items, "__name__", name)
    FunctionFamily.__module__ = items.__module__
    return FunctionFamily


def _check_item(name: str, item: Any, names: tuple[str, ...]) -> None:
    if not isinstance(item, Item) or not any(task in item.answers for task in names):
        what = f"found {item!r}, expected an Item with an answer under {' or '.join(names)}"
        raise TaskError(f"task '{name}'", what, "return patchboard.tasks.base.Item(input, {task: answer})")
