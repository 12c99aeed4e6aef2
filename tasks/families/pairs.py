"""Pairs: a user's own tasks, each a file of inputs and outputs named by its stem, or rows of a data set; or a set of
such files that is shipped.

An input that several tasks hold is one item with an answer under each of them. Null answers, where
wanted, are the output of a random row with another input.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.tasks.base import FAMILIES, NULL, Item
from patchboard.tasks.files import sha256_of
from patchboard.tasks.hub import local_files
from patchboard.tasks.pair_dataset import ColumnOptions, PairDatasetOptions, dataset_rows, dataset_tasks
from patchboard.tasks.pair_files import WHERE, find_files, read_rows
from patchboard.tasks.pair_rows import Source, TaskRows, add_null
from patchboard.tasks.pair_sets import folder_of, set_names


class PairOptions(Section):
    files: Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description=".json, .jsonl, .csv or .tsv files, folders of them, or glob patterns, from the working folder",
    )
    columns: ColumnOptions = Field(
        ColumnOptions(), description="what the rows of the files call an input and an output"
    )
    dataset: PairDatasetOptions | None = Field(None, description="in place of files")
    set: str | None = Field(
        None, description=f"in place of files: a set of tasks that is shipped, {', '.join(set_names())}"
    )

    @model_validator(mode="after")
    def _one_source(self) -> PairOptions:
        sources = [name for name in ("files", "dataset", "set") if getattr(self, name) is not None]
        if not sources:
            raise InvalidValue("is missing", "add files, a dataset or a set", ("files",))
        if len(sources) > 1:
            what = f"is given beside {sources[1]}, expected one source"
            raise InvalidValue(what, "leave one out", (sources[0],))
        if self.files is None and "columns" in self.model_fields_set:
            remedy = "name input and output under dataset" if self.dataset is not None else "leave it out"
            raise InvalidValue(f"is given beside {sources[0]}", remedy, ("columns",))
        return self

    def file_of(self) -> dict[str, Path]:
        """Task -> its file; empty for a data set. Raises TaskError."""
        if self.set is not None:
            return find_files([str(folder_of(self.set))])
        return find_files(self.files) if self.files is not None else {}


@FAMILIES.register("pairs")
class Pairs:
    """Tasks from files of pairs, from a data set of them, or a set that is shipped."""

    Options = PairOptions

    def __init__(self, tasks: Sequence[str], options: PairOptions):
        """Raises TaskError where a file is not pairs; a data set's text is read by ``pool``."""
        self.tasks, self.options = tuple(tasks), options
        self.files = {task: file for task, file in options.file_of().items() if task in self.tasks}
        if self.files:
            self.read  # noqa: B018

    @classmethod
    def task_names(cls, options: PairOptions) -> tuple[str, ...]:
        if options.dataset is not None:
            return dataset_tasks(options.dataset)
        return tuple(options.file_of())

    @classmethod
    def build(cls, options: PairOptions, tasks: tuple[str, ...], embedded: bool) -> Pairs:
        return cls(tasks, options)

    @cached_property
    def read(self) -> dict[str, TaskRows]:
        """What each task but Null holds. Raises TaskError."""
        if self.options.dataset is not None:
            rows = dataset_rows(self.options.dataset)
            return {task: TaskRows.of(rows[task]) for task in self.tasks if task != NULL}
        columns = self.options.columns
        source = Source(WHERE, columns.input, columns.output)
        return {task: TaskRows.of(read_rows(file, source)) for task, file in self.files.items()}

    def data_files(self) -> Sequence[Path]:
        if self.options.dataset is not None:
            return local_files(self.options.dataset.name)
        return [*self.files.values()] if self.options.set is None else ()  # a shipped set is code

    def pool(self, seed: int) -> Sequence[Item]:
        answers: dict[str, dict[str, str]] = {}
        more: dict[str, dict[str, tuple[str, ...]]] = {}
        for task, read in self.read.items():
            for input_text, row in read.rows.items():
                answers.setdefault(input_text, {})[task] = row.output
                more.setdefault(input_text, {}).update({task: row.more} if row.more else {})
        if NULL in self.tasks:
            add_null(answers, self.read, np.random.default_rng([seed, 0x9A125]))
        return [Item(input_text, answer_of, more[input_text]) for input_text, answer_of in answers.items()]

    def describe(self) -> dict[str, Any]:
        """Per task: inputs, rows that repeat one, and those with other outputs (the first counts)."""
        counts = {task: read.describe() for task, read in self.read.items()}
        if self.options.dataset is not None:
            return {"family": "pairs", "dataset": self.options.dataset.model_dump(), "tasks": counts}
        digests = {task: sha256_of(file) for task, file in self.files.items()}
        if self.options.set is not None:
            tasks = {task: {"sha256": digest} | counts[task] for task, digest in digests.items()}
            return {"family": "pairs", "set": self.options.set, "tasks": tasks}
        files = {task: {"file": str(file), "sha256": digests[task]} for task, file in self.files.items()}
        return {"family": "pairs", "files": {task: facts | counts[task] for task, facts in files.items()}}
