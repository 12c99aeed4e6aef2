"""What a task family promises: a pool that a seed tells, with an answer wherever it says there is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from patchboard.plugins.checks.promise import Promise
from patchboard.spec.positions import POSITIONS
from patchboard.tasks.base import NULL, Item, distinct, normal_form


@lru_cache(maxsize=8)
def _family(kind: Any) -> Any:
    """One of the class, with its default options and all of its tasks."""
    options = kind.Options()
    return kind.build(options, (*kind.task_names(options), NULL), False)


@lru_cache(maxsize=8)
def pool_of(family: Any, seed: int = 0) -> Sequence[Item]:
    """Drawn once for all promises: a pool may be large."""
    return family.pool(seed)


def _names(family: Any) -> str:
    names = family.tasks
    if not names or len(set(names)) != len(names):
        return f"its tasks are {list(names)}, expected different names"
    return "" if names[-1] == NULL or NULL not in names else f"{NULL} stands among them, expected it last"


def _items(family: Any) -> str:
    pool = pool_of(family)
    if len(pool) < 4:
        return f"its pool holds {len(pool)} items, expected enough for two halves"
    wrong = next((item for item in pool if not isinstance(item, Item)), None)
    return "" if wrong is None else f"its pool holds {wrong!r}, expected Items"


def _seeded(family: Any) -> str:
    return "" if pool_of(family, 3) == family.pool(3) else "seed 3 gives two pools"


def _null(family: Any) -> str:
    if NULL not in family.tasks:
        return ""
    drawn = [[item.answers.get(NULL) for item in pool_of(family, seed)] for seed in (3, 4)]
    return "" if drawn[0] != drawn[1] else f"{NULL}'s answers are the same under two seeds, expected drawn ones"


def _answers(family: Any) -> str:
    tasks = set(family.tasks)
    for item in pool_of(family):
        foreign = set(item.answers) - tasks
        if foreign:
            return f"input {item.input!r} has an answer under {', '.join(sorted(foreign))}, which is none of its tasks"
        if not item.answers or not all(answer.strip() for answer in item.answers.values()):
            return f"input {item.input!r} has an empty answer: leave out tasks that it has none under"
        if not item.input.strip():
            return "an input is empty"
    missing = tasks - {task for item in pool_of(family) for task in item.answers}
    return f"no item has an answer under {', '.join(sorted(missing))}" if missing else ""


def _distinct(family: Any) -> str:
    pool = pool_of(family)
    _, merged = distinct(pool)
    if not merged.inputs:
        return ""
    seen: set[str] = set()
    for item in pool:
        form = normal_form(item.input)
        if form in seen:
            return f"{merged.inputs} items repeat an input, {item.input!r} the first"
        seen.add(form)
    return ""


def _spans(family: Any) -> str:
    for item in pool_of(family):
        for each in (item, *item.sources.values()):
            for name, (start, stop) in each.spans.items():
                if not 0 <= start < stop <= len(each.input):
                    return f"span {name} is characters {start} to {stop} of {each.input!r}"
                if name in POSITIONS:
                    return f"a span is called {name}, as a position is"
    return ""


def _sources(family: Any) -> str:
    for item in pool_of(family):
        for name, source in item.sources.items():
            if source.sources:
                return f"source {name} of {item.input!r} has sources of its own"
            if not source.input.strip() or set(source.answers) - set(family.tasks):
                return f"source {name} of {item.input!r} is {source!r}, expected an input with answers under its tasks"
        for task, foils in item.foils.items():
            if task not in item.answers or not foils or item.right(task) & {*foils}:
                return f"{item.input!r} has the foils {foils} under {task}, expected answers that are wrong there"
    return ""


def _described(family: Any) -> str:
    json.dumps(family.describe())
    return ""


FAMILY_PROMISES = (
    Promise("its tasks have different names, Null last", _names),
    Promise("its pool holds items, enough of them", _items),
    Promise("a seed gives the same pool each time", _seeded),
    Promise("Null's answers are drawn by the seed", _null),
    Promise("answers are texts under its own tasks, each task has some", _answers),
    Promise("no input stands in the pool twice", _distinct),
    Promise("spans are characters of their input, and not called as positions are", _spans),
    Promise("sources are inputs with answers under its tasks, foils are wrong answers", _sources),
    Promise("what it tells of itself is plain data", _described),
)
"""Of a family that is built."""


def _options(kind: Any) -> str:
    bare = [name for name, field in kind.Options.model_fields.items() if not field.description]
    return f"options without a description: {', '.join(bare)}" if bare else ""


def _of_default(promise: Promise) -> Promise:
    return Promise(promise.text, lambda kind: promise.test(_family(kind)))


TASK_PROMISES = (Promise("its options are described", _options), *map(_of_default, FAMILY_PROMISES))
"""Of a registered class, with its default options."""
