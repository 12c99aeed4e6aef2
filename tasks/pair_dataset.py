"""Pairs of a data set: two columns, and perhaps a third one that names each row's task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.tasks.hub import WHERE, HubOptions, class_names, load_rows
from patchboard.tasks.pair_rows import Row, Source, task_name


class ColumnOptions(Section):
    """What rows call an input and an output."""

    input: str = Field(default="input", description="key or column of the input")
    output: str = Field(default="output", description="key or column of the output")

    @model_validator(mode="after")
    def _two(self) -> ColumnOptions:
        if self.input == self.output:
            raise InvalidValue(f"input and output are both '{self.input}'", "name two columns")
        return self


class PairDatasetOptions(ColumnOptions, HubOptions):
    """A data set of pairs, read with the `datasets` library."""

    task: str | None = Field(
        None, description="column that names each row's task; null: all rows are one task, named by config or name"
    )


def dataset_tasks(options: PairDatasetOptions) -> tuple[str, ...]:
    """The tasks in the order of their first rows. Raises TaskError."""
    if options.task is None:
        return (task_name(_only_name(options), f"'{options.name}'", _source(options)),)
    rows = load_rows(options.name, options.config, options.revision, options.split, {"task": options.task})
    return tuple(dict.fromkeys(_names(rows, options)))


def dataset_rows(options: PairDatasetOptions) -> dict[str, list[Row]]:
    """Task -> its rows in order. Raises TaskError, which names the row, where one holds no pair."""
    source = _source(options)
    columns = {"input": options.input, "output": options.output} | ({"task": options.task} if options.task else {})
    rows = load_rows(options.name, options.config, options.revision, options.split, columns)
    if not len(rows):
        raise source.refused(f"split '{options.split}' of '{options.name}' is empty", "name another split")
    rows_of: dict[str, list[Row]] = {}
    pairs = (column_values(rows, column) for column in (options.input, options.output))
    of_rows = zip(_names(rows, options), *pairs, strict=True)
    for i, (task, input_text, output) in enumerate(of_rows):
        rows_of.setdefault(task, []).append(source.pair(input_text, output, f"row {i} of '{options.name}'"))
    return rows_of


def _source(options: PairDatasetOptions) -> Source:
    return Source(WHERE, options.input, options.output)


def _only_name(options: PairDatasetOptions) -> str:
    """What the one task of a data set without a column of tasks is called."""
    return options.config or Path(options.name).name


def column_values(rows: Any, column: str) -> list[Any]:
    """A column's values or lists of them; names of ClassLabels, floats with as many digits as their own type has."""
    names, feature = class_names(rows, column), rows.features[column]
    kind = str(getattr(getattr(feature, "feature", feature), "dtype", ""))

    def text(value: Any) -> Any:
        if isinstance(value, list):
            return [text(each) for each in value]
        if names:
            return names[value] if isinstance(value, int) and value >= 0 else None
        return str(np.dtype(kind).type(value)) if kind in ("float16", "float32") and value is not None else value

    return [text(value) for value in rows[column][:]]


def _names(rows: Any, options: PairDatasetOptions) -> list[str]:
    """The task of each row. Raises TaskError."""
    source = _source(options)
    values = column_values(rows, options.task) if options.task else [_only_name(options)] * len(rows)
    texts = [source.text(value, "task", f"row {i} of '{options.name}'") for i, value in enumerate(values)]
    names = {text: task_name(text, f"'{options.name}'", source) for text in texts}
    if len(set(names.values())) < len(names):
        twice = [text for text, name in names.items() if list(names.values()).count(name) > 1]
        what = " and ".join(f"'{text}'" for text in twice[:2])
        raise source.refused(f"tasks {what} of '{options.name}' would have one name", "rename one of them")
    return [names[text] for text in texts]
