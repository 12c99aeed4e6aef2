"""What a task family is: a pool of inputs, each with its answer under every task of the family.

Holding all answers beside one input is what makes matched prompts (same demonstrations, other
outputs) and conversion (does another task's vector yield *that* task's answer?) possible.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from patchboard.errors import TaskError
from patchboard.registry import Registry

NULL = "Null"


@dataclass(frozen=True)
class Item:
    """One input and its answer under each task for which it has one."""

    input: str
    answers: Mapping[str, str]
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Task -> further right answers, where there are several; demonstrations show the first."""

    def right(self, task: str) -> set[str]:
        """All right answers under a task that it has."""
        return {self.answers[task], *self.more.get(task, ())}


class Family(Protocol):
    """A set of confusable tasks. ``tasks`` holds Null (last) only where it is asked for."""

    tasks: tuple[str, ...]

    def data_files(self) -> Sequence[Path]:
        """The user's files that the rows come from: a run is bound to their contents."""
        ...

    def pool(self, seed: int) -> Sequence[Item]:
        """All items of the family (or a seeded sample of a pool too large to list)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Facts for the manifest: source, counts per task, exclusions."""
        ...


FAMILIES: Registry[Any] = Registry("task family")
"""Family name -> class. Beside the protocol above a class has ``Options`` (a spec Section: the family's own
fields), ``task_names(options)`` without Null, and ``build(options, tasks, embedded)``."""


_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
"""Soft hyphen, zero-width space, word joiner, byte order mark: texts that differ in these look and mean the same."""


def normal_form(text: str) -> str:
    """What two inputs share that differ in white space or Unicode form only; case is kept.

    >>> normal_form(" w1\\u00a0\\n w2 ") == normal_form("w1 w2") != normal_form("W1 w2")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).split())


@dataclass(frozen=True)
class Merged:
    """Items that became one with an earlier item of their input; contradicting: those with another answer."""

    inputs: int
    contradicting: int


def distinct(pool: Sequence[Item]) -> tuple[list[Item], Merged]:
    """One item an input: its first spelling, and the first answer under each task."""
    kept: dict[str, Item] = {}
    contradicting = 0
    for item in pool:
        form = normal_form(item.input)
        first = kept.setdefault(form, item)
        if first is not item:
            known = first.answers
            shared = [task for task in item.answers if task != NULL and task in known]
            contradicting += any(item.right(task) != first.right(task) for task in shared)
            added = {t: a for t, a in item.answers.items() if t not in known}
            more = {t: a for t, a in item.more.items() if t in added}
            kept[form] = Item(first.input, {**known, **added}, {**first.more, **more})
    return list(kept.values()), Merged(len(pool) - len(kept), contradicting)


def split_pool(pool: Sequence[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """Two halves, (fit, evaluate), with no input in common, in whichever spelling (``normal_form``)."""
    forms: dict[str, str] = {}
    for item in pool:
        forms.setdefault(normal_form(item.input), item.input)
    inputs = sorted(forms, key=forms.__getitem__)
    order = np.random.default_rng([seed, 0x5B11]).permutation(len(inputs))
    fit_inputs = {inputs[i] for i in order[: len(inputs) // 2]}
    fit = [item for item in pool if normal_form(item.input) in fit_inputs]
    evaluate = [item for item in pool if normal_form(item.input) not in fit_inputs]
    return fit, evaluate


def draw(pool: Sequence[Item], task: str, rows: int, rng: np.random.Generator, where: str) -> list[Item]:
    """``rows`` different items that have an answer under ``task``, in random order.

    Raises TaskError where the pool holds too few.
    """
    usable = [item for item in pool if task in item.answers]
    if len(usable) < rows:
        raise TaskError(
            where,
            f"task {task} has {len(usable)} rows in this half of the data, a prompt needs {rows}",
            "use fewer shots or give more data",
        )
    return [usable[i] for i in rng.choice(len(usable), size=rows, replace=False)]
