"""One row of pairs, whatever it is read from: an input and its output as text, or words about what it is instead."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from patchboard.errors import TaskError
from patchboard.registry import suggest
from patchboard.tasks.base import NULL, normal_form

EXAMPLE = '{"input": "hot", "output": "cold"}'


@dataclass(frozen=True)
class Row:
    """One pair, with its further right outputs."""

    input: str
    output: str
    more: tuple[str, ...] = ()

    def same_outputs(self, other: Row) -> bool:
        """Whether the two give the same outputs as right, in whatever order."""
        return {self.output, *self.more} == {other.output, *other.more}


@dataclass(frozen=True)
class TaskRows:
    """A task's answers, and how many of its rows repeat an input with the same or with other outputs."""

    rows: Mapping[str, Row]
    """Input -> its first row."""
    repeated: int
    contradicting: int

    @classmethod
    def of(cls, rows: Sequence[Row]) -> TaskRows:
        first: dict[str, Row] = {}
        for row in rows:
            first.setdefault(row.input, row)
        contradicting = sum(not first[row.input].same_outputs(row) for row in rows)
        return cls(first, len(rows) - len(first), contradicting)

    def describe(self) -> dict[str, int]:
        several = sum(bool(row.more) for row in self.rows.values())
        counts = {"inputs": len(self.rows), "repeated": self.repeated, "contradicting": self.contradicting}
        return counts | ({"several_answers": several} if several else {})


def add_null(answers: Mapping[str, dict[str, str]], read: Mapping[str, TaskRows], rng: np.random.Generator) -> None:
    """Puts Null's answer to each input into ``answers`` (input -> task -> answer): the output of a random row of any
    task with another input. An input without any other input beside it has none."""
    rows = [(input_text, row.output) for task in read.values() for input_text, row in task.rows.items()]
    if len(set(map(normal_form, answers))) < 2:
        return
    for input_text, answer_of in answers.items():
        other, output = input_text, ""
        while normal_form(other) == normal_form(input_text):  # ends: there is a row of another input
            other, output = rows[rng.integers(len(rows))]
        answer_of[NULL] = output


@dataclass(frozen=True)
class Source:
    """Where rows come from: the field of the spec that names it, and which of their keys are meant."""

    field: str
    input: str
    output: str
    example: str = EXAMPLE
    """A row as messages show it."""

    def single(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Which of a row's keys, or a table's columns, must stand there no more than once."""
        return self.input, self.output

    def refused(self, what: str, remedy: str) -> TaskError:
        return TaskError(self.field, what, remedy)

    def row(self, record: Any, place: str) -> Row:
        """The pair that a mapping holds; other keys are let be. place: what the record is called in messages.

        Raises TaskError.
        """
        self.check(record, place)
        return self.pair(record[self.input], record[self.output], place)

    def check(self, record: Any, place: str) -> None:
        """Raises TaskError unless the record is a mapping that has both keys."""
        if not isinstance(record, Mapping):
            what = f"{place} is {_kind(record)}, expected {{{self.input}, {self.output}}}"
            raise self.refused(what, f"write {self.example}")
        for key in (self.input, self.output):
            if key not in record:
                raise self.refused(f"{place} has no {key}", self.lacking(key, [*record]))

    def pair(self, given: Any, output: Any, place: str) -> Row:
        """A row of these two values; a list of outputs holds several right ones, each once."""
        first, *more = self.texts(output, self.output, place)
        return Row(self.text(given, self.input, place), first, tuple(more))

    def texts(self, value: Any, key: str, place: str) -> tuple[str, ...]:
        """The texts of a value, each once: one, or those of a list. Raises TaskError for an empty one."""
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        if not values:
            raise self.refused(f"{place} has an empty list as its {key}", "give it a text, or leave the row out")
        return tuple(dict.fromkeys(self.text(each, key, place) for each in values))

    def text(self, value: Any, key: str, place: str) -> str:
        """The value as the text that is meant: numbers as JSON writes them."""
        if not isinstance(value, str):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                what = f"{place} has {_kind(value)} as its {key}, expected text or a number"
                raise self.refused(what, "give it as text in quotes")
            return repr(value)
        if not value.strip():
            raise self.refused(f"{place} has an empty {key}", "give it a text, or leave the row out")
        try:
            value.encode()
        except UnicodeEncodeError:
            what = f"{place} has half of a surrogate pair (\\ud800 … \\udfff) in its {key}"
            raise self.refused(what, "write the whole character") from None
        return value

    def lacking(self, key: str, known: list[str]) -> str:
        """What to do where rows have other keys than asked for."""
        if self.field == "tasks.files" and key in ("input", "output"):
            name = f"name it by tasks.columns: {{{key}: …}} if it is one of {', '.join(known)}" if known else ""
            return name or "give every row an input and an output"
        return suggest(key, known)


def task_name(text: str, place: str, source: Source) -> str:
    """The text with what no file's name may hold made '_': packs and vectors are named by their task.

    Raises TaskError for Null and for what is too long for a file's name.
    """
    name = re.sub(r"[/\\\x00-\x1f]", "_", text)
    if name == NULL:
        raise source.refused(f"{place} holds a second task named {NULL}", "rename it")
    if len(name) > 100:
        what = f"{place} holds a task's name of {len(name)} characters, expected at most 100"
        raise source.refused(what, "name another column as the task's")
    return name


def _kind(value: Any) -> str:
    """What a value of JSON is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, (list, tuple)) else "a number"
