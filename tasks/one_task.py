"""What families of one task and of sentences made from lists of words have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from patchboard.spec.section import Section
from patchboard.tasks.base import NULL, Item

MOST = 1000
"""Items of a pool at most: a seeded sample of all sentences, each once."""


class NoOptions(Section):
    """Of a family whose sentences leave nothing to choose."""


class OneTask:
    """A family whose one task has its name. What is made of sentences is ``_items``, Null's answers are ``_chance``."""

    Options: ClassVar[type[Section]] = NoOptions
    name: ClassVar[str]
    span_names: ClassVar[tuple[str, ...]] = ()
    """Spans that its sentences mark, where options do not change them."""
    source_names: ClassVar[tuple[str, ...]] = ()
    """Counterfactual sources that its sentences have, where options do not change them."""

    def __init__(self, tasks: Sequence[str], options: Any):
        self.tasks, self.options = tuple(tasks), options

    @classmethod
    def task_names(cls, options: Any) -> tuple[str, ...]:
        return (cls.name,)

    @classmethod
    def build(cls, options: Any, tasks: tuple[str, ...], embedded: bool) -> OneTask:
        return cls(tasks, options)

    @classmethod
    def spans(cls, options: Any) -> tuple[str, ...]:
        return cls.span_names

    @classmethod
    def sources(cls, options: Any) -> tuple[str, ...]:
        return cls.source_names

    def data_files(self) -> Sequence[Path]:
        return ()

    def pool(self, seed: int) -> Sequence[Item]:
        items = self._items(np.random.default_rng([seed, *self.name.encode()]))
        if NULL not in self.tasks:
            return items
        rng = np.random.default_rng([seed, 0x4F11, *self.name.encode()])
        return [replace(item, answers={**item.answers, NULL: self._chance(item, rng)}) for item in items]

    def _items(self, rng: np.random.Generator) -> list[Item]:
        raise NotImplementedError

    def _chance(self, item: Item, rng: np.random.Generator) -> str:
        """Null's answer: a random one of those that inputs of the family can have."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        return {"family": self.name, **self.options.model_dump()}


def filled(template: str, words: Mapping[str, str]) -> tuple[str, dict[str, tuple[int, int]]]:
    """The template with its slots ``[NAME]`` filled, and name -> characters [start, stop) of each word."""
    text, spans = "", {}
    for i, part in enumerate(re.split(r"\[(\w+)\]", template)):
        if i % 2:
            spans[part] = (len(text), len(text) + len(words[part]))
        text += words[part] if i % 2 else part
    return text, spans


def combinations(sizes: Sequence[int], rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Combinations of indices below ``sizes``, each once: all where there are no more than ``MOST``, else so many."""
    total = int(np.prod(sizes))
    picked = np.arange(total) if total <= MOST else np.sort(rng.choice(total, MOST, replace=False))
    return list(zip(*(axis.tolist() for axis in np.unravel_index(picked, sizes)), strict=True))


def any_of(words: Sequence[str], rng: np.random.Generator, but: Sequence[str] = ()) -> str:
    """A random one of the words that is none of ``but``."""
    left = [word for word in words if word not in but]
    return left[rng.integers(len(left))]
