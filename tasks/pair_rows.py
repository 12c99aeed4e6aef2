"""One row of pairs, whatever it is read from: an input and its output as text, or words about what it is instead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from patchboard.errors import TaskError
from patchboard.registry import suggest

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
class Source:
    """Where rows come from: the field of the spec that names it, and which of their keys are meant."""

    field: str
    input: str
    output: str

    def refused(self, what: str, remedy: str) -> TaskError:
        return TaskError(self.field, what, remedy)

    def row(self, record: Any, place: str) -> Row:
        """The pair that a mapping holds; other keys are let be. place: what the record is called in messages.

        Raises TaskError.
        """
        if not isinstance(record, Mapping):
            what = f"{place} is {_kind(record)}, expected {{{self.input}, {self.output}}}"
            raise self.refused(what, f"write {EXAMPLE}")
        for key in (self.input, self.output):
            if key not in record:
                raise self.refused(f"{place} has no {key}", self.lacking(key, [*record]))
        return self.pair(record[self.input], record[self.output], place)

    def pair(self, given: Any, output: Any, place: str) -> Row:
        """A row of these two values; a list of outputs holds several right ones, each once."""
        outputs = list(output) if isinstance(output, (list, tuple)) else [output]
        if not outputs:
            raise self.refused(
                f"{place} has an empty list as its {self.output}", "give it a text, or leave the row out"
            )
        texts = dict.fromkeys(self.text(each, self.output, place) for each in outputs)
        first, *more = texts
        return Row(self.text(given, self.input, place), first, tuple(more))

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
