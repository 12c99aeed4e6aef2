"""What a task family is: a pool of inputs, each with its answer under every task of the family.

Holding all answers beside one input is what makes matched prompts (same demonstrations, other
outputs) and conversion (does another task's vector yield *that* task's answer?) possible.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    foils: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Task -> wrong answers that the right one is held against, the first for `logit_difference`."""
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Name -> characters [start, stop) of ``input``."""
    sources: Mapping[str, Item] = field(default_factory=dict)
    """Name -> a counterfactual input with its own answers and spans; it has no sources of its own."""

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
    """One item an input: its first spelling with its spans and sources, and the first answer under each task."""
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
            foils = {t: a for t, a in item.foils.items() if t in added}
            kept[form] = replace(
                first, answers={**known, **added}, more={**first.more, **more}, foils={**first.foils, **foils}
            )
    return list(kept.values()), Merged(len(pool) - len(kept), contradicting)


def split_pool(pool: Sequence[Item], seed: int) -> tuple[list[Item], list[Item]]:
    """Two halves, (fit, evaluate), with no input in common, in whichever spelling (``normal_form``), sources included.

    Inputs that are linked, as input and source or by one source of both, go to one half together; where so many are
    linked that they are more than a half, they are evaluated and the fit half is the smaller one.
    """
    forms: dict[str, str] = {}
    for item in pool:
        forms.setdefault(normal_form(item.input), item.input)
    inputs = sorted(forms, key=forms.__getitem__)
    group_of = _linked(pool)
    members: dict[str, list[str]] = {}
    for form in inputs:
        members.setdefault(group_of[form], []).append(form)
    order = np.random.default_rng([seed, 0x5B11]).permutation(len(inputs))
    fit_inputs: set[str] = set()
    for group in dict.fromkeys(group_of[inputs[i]] for i in order):
        if len(fit_inputs) + len(members[group]) <= len(inputs) // 2:
            fit_inputs.update(members[group])
    fit = [item for item in pool if normal_form(item.input) in fit_inputs]
    evaluate = [item for item in pool if normal_form(item.input) not in fit_inputs]
    return fit, evaluate


def _linked(pool: Sequence[Item]) -> dict[str, str]:
    """Normal form of each input and source -> one of those that it is linked with, the same for all of them."""
    parent: dict[str, str] = {}

    def root(form: str) -> str:
        parent.setdefault(form, form)
        while parent[form] != form:
            parent[form] = form = parent[parent[form]]
        return form

    for item in pool:
        own = root(normal_form(item.input))
        for source in item.sources.values():
            parent[root(normal_form(source.input))] = own
    return {form: root(form) for form in list(parent)}


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
