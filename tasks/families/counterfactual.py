"""A user's own inputs with foils, marked spans and counterfactual sources, from files or a data set.

An input that several tasks hold is one item with an answer under each of them. Null answers, where wanted, are the
answer of a random row with another input.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from patchboard.errors import TaskError
from patchboard.tasks.base import FAMILIES, NULL, Item
from patchboard.tasks.case_files import CaseOptions, read_cases
from patchboard.tasks.cases import Case
from patchboard.tasks.files import sha256_of
from patchboard.tasks.pair_rows import TaskRows, add_null


@FAMILIES.register("counterfactual")
class Counterfactual:
    """Inputs with foils, spans and counterfactual sources, from your files or a data set of them."""

    Options = CaseOptions

    def __init__(self, tasks: Sequence[str], options: CaseOptions):
        """Raises TaskError where a file's rows are no cases."""
        self.tasks, self.options = tuple(tasks), options
        self.cases = read_cases(options)

    @classmethod
    def task_names(cls, options: CaseOptions) -> tuple[str, ...]:
        return tuple(dict.fromkeys(case.task for case in read_cases(options)))

    @classmethod
    def spans(cls, options: CaseOptions) -> tuple[str, ...]:
        """Names of the spans that some row's base has. Raises TaskError."""
        return tuple(dict.fromkeys(name for case in read_cases(options) for name in case.spans))

    @classmethod
    def sources(cls, options: CaseOptions) -> tuple[str, ...]:
        """Names of the sources that some row has. Raises TaskError."""
        return tuple(dict.fromkeys(name for case in read_cases(options) for name in case.sources))

    @classmethod
    def build(cls, options: CaseOptions, tasks: tuple[str, ...], embedded: bool) -> Counterfactual:
        return cls(tasks, options)

    @cached_property
    def read(self) -> dict[str, TaskRows]:
        """Task, but Null -> its rows, the first of each input."""
        return {
            task: TaskRows.of([case for case in self.cases if case.task == task]) for task in self.tasks if task != NULL
        }

    def data_files(self) -> Sequence[Path]:
        return self.options.found()

    def pool(self, seed: int) -> Sequence[Item]:
        """Raises TaskError where two tasks give one input other spans or sources under one name."""
        rows: dict[str, list[Case]] = {}
        for read in self.read.values():
            for text, case in read.rows.items():
                assert isinstance(case, Case)
                rows.setdefault(text, []).append(case)
        answers = {text: {case.task: case.output for case in cases} for text, cases in rows.items()}
        if NULL in self.tasks:
            add_null(answers, self.read, np.random.default_rng([seed, 0xC0F]))
        return [self._item(text, answers[text], cases) for text, cases in rows.items()]

    def _item(self, text: str, answers: Mapping[str, str], cases: Sequence[Case]) -> Item:
        spans: dict[str, tuple[int, int]] = {}
        sources: dict[str, Item] = {}
        for case in cases:
            for name, span in case.spans.items():
                if spans.setdefault(name, span) != span:
                    raise self._refused(case, f"marks {name} elsewhere than another row of the same base")
            for name, source in case.sources.items():
                known = sources.get(name, source)
                if known.input != source.input:
                    raise self._refused(case, f"has another source '{name}' than another row of the same base")
                sources[name] = Item(
                    known.input,
                    {**source.answers, **known.answers},
                    {**source.more, **known.more},
                    spans={**source.spans, **known.spans},
                )
        more = {case.task: case.more for case in cases if case.more}
        foils = {case.task: case.foils for case in cases if case.foils}
        return Item(text, answers, more, foils, spans, sources)

    def _refused(self, case: Case, what: str) -> TaskError:
        field = "tasks.dataset" if self.options.dataset is not None else "tasks.files"
        return TaskError(field, f"{case.place} {what}", "give it a name of its own in the one task")

    def describe(self) -> dict[str, Any]:
        """Per task the inputs, rows that repeat one and those with other answers; inputs by span and by source."""
        counts = {task: read.describe() for task, read in self.read.items()}
        kept = [case for read in self.read.values() for case in read.rows.values() if isinstance(case, Case)]
        facts = {
            "tasks": counts,
            "spans": dict(Counter(name for case in kept for name in case.spans)),
            "sources": dict(Counter(name for case in kept for name in case.sources)),
        }
        if self.options.dataset is not None:
            return {"family": "counterfactual", "dataset": self.options.dataset.model_dump(), **facts}
        files = {str(file): sha256_of(file) for file in self.data_files()}
        return {"family": "counterfactual", "files": files, **facts}
