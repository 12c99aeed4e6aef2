"""Rows of counterfactual inputs: a base with its answer, foils and spans, and its sources, from columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field, model_validator

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.tasks.base import Item
from patchboard.tasks.marks import MarkError, Spans, fault_of_name, span_of, unmarked
from patchboard.tasks.pair_rows import Row, Source, task_name

TASK = "counterfactual"
"""Of rows without a column of tasks."""

CASE = '{"base": "The {S: keys} fell", "answer": "down", "source": "The {S: kites} fell"}'


class CaseColumns(Section):
    """What rows call their parts."""

    base: str = Field(default="base", description="key or column of the input")
    answer: str = Field(default="answer", description="key or column of its right answer")
    foils: str = Field(default="foils", description="of its wrong answers: a list, or a text with | between them")
    source: str = Field(
        default="source",
        description="of the counterfactual input, and the beginning of further ones' (`source_NAME`), of their answers"
        " (`source_answer`, `source_NAME_answer`) and spans (`source_span_S`, `source_NAME_span_S`)",
    )
    task: str = Field(default="task", description=f"of the row's task; rows without one are of `{TASK}`")

    @model_validator(mode="after")
    def _differ(self) -> CaseColumns:
        names = [getattr(self, part) for part in CaseColumns.model_fields]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidValue(f"two of the columns are '{twice}'", "name different ones")
        return self


@dataclass(frozen=True)
class Case(Row):
    """One row: ``input`` is the base without its marks."""

    task: str = TASK
    foils: tuple[str, ...] = ()
    spans: Spans = field(default_factory=dict)
    sources: Mapping[str, Item] = field(default_factory=dict)
    place: str = ""
    """What the row is called in messages."""


@dataclass(frozen=True)
class CaseSource(Source):
    """Where cases come from, and what their columns are called."""

    columns: CaseColumns = CaseColumns()

    @classmethod
    def of(cls, where: str, columns: CaseColumns) -> CaseSource:
        return cls(where, columns.base, columns.answer, CASE, columns)

    def single(self, keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(key for key in dict.fromkeys(keys) if self.reads(key))

    def reads(self, column: str) -> bool:
        """Whether the column is one of a case's; others are let be."""
        c = self.columns
        return column in (c.base, c.answer, c.foils, c.task) or bool(_SPAN.fullmatch(column) or self._parts(column))

    def _parts(self, column: str) -> tuple[str, str] | None:
        """(name of the source, "" or "answer" or "span_S") if the column is of sources; "*": it names none."""
        found = re.fullmatch(rf"{re.escape(self.columns.source)}(?:_(\w+?))??(?:_(answer|span_\w+))?", column)
        return (found[1] or "*", found[2] or "") if found else None

    def pair(self, given: Any, output: Any, place: str) -> Row:
        raise self.refused(f"{place} is no row", f"write [{self.example}, …]")

    def row(self, record: Any, place: str) -> Case:
        """The case that a mapping holds. Raises TaskError."""
        self.check(record, place)
        base, spans = self._text(record[self.input], self.input, place)
        told = {key: value for key, value in record.items() if not _blank(value)}
        by_column = {found[1]: key for key in told if (found := _SPAN.fullmatch(key))}
        for name, key in by_column.items():
            spans |= self._span(name, told[key], base, spans, key, place)
        answer, *more = self.texts(record[self.output], self.output, place)
        foils = self._foils(told, place)
        clash = next((foil for foil in foils if foil in (answer, *more)), None)
        if clash is not None:
            raise self.refused(f"{place} has '{clash}' as answer and as foil", "leave it out of one of them")
        task = self.text(told.get(self.columns.task, TASK), self.columns.task, place)
        task = task_name(task, place, self)
        return Case(base, answer, tuple(more), task, foils, spans, self._sources(told, task, place), place)

    def _foils(self, told: Mapping[str, Any], place: str) -> tuple[str, ...]:
        key = self.columns.foils
        value = told.get(key, ())
        if isinstance(value, str):
            value = [foil.strip() for foil in value.split("|")]
        return self.texts(value, key, place) if value != () else ()

    def _sources(self, told: Mapping[str, Any], task: str, place: str) -> dict[str, Item]:
        """Name -> source; the one without a name is called source."""
        parts: dict[str, dict[str, tuple[Any, str]]] = {"": {}}
        for key, value in told.items():
            of = self._parts(key)
            if of is None:
                continue
            name, part = of
            named = value if name == "*" and isinstance(value, Mapping) else {name.replace("*", "source"): value}
            for source, text in named.items():
                if source in parts.get(part, ()):
                    raise self.refused(f"{place} gives {part or 'source'} of '{source}' twice", "leave one")
                if not _blank(text):
                    parts.setdefault(part, {})[source] = text, key
        for of_part in parts.values():
            for name, (_, key) in of_part.items():
                if name not in parts[""]:
                    raise self.refused(f"{place} has {key}, but no source '{name}'", "add the source, or leave it out")
        return {name: self._source(name, parts, task, place) for name in parts[""]}

    def _source(self, name: str, parts: Mapping[str, Mapping[str, tuple[Any, str]]], task: str, place: str) -> Item:
        value, key = parts[""][name]
        fault = fault_of_name(name)
        if fault:
            raise self.refused(f"{place} has a source '{name}', which {fault}", "call it flip, say")
        text, spans = self._text(value, key, place)
        for part, of_part in parts.items():
            if part.startswith("span_") and name in of_part:
                span, column = of_part[name]
                spans |= self._span(part.removeprefix("span_"), span, text, spans, column, place)
        if name not in parts.get("answer", {}):
            return Item(text, {}, spans=spans)
        answer, *more = self.texts(*parts["answer"][name], place)
        return Item(text, {task: answer}, {task: tuple(more)} if more else {}, spans=spans)

    def _text(self, value: Any, key: str, place: str) -> tuple[str, Spans]:
        try:
            return unmarked(self.text(value, key, place))
        except MarkError as error:
            raise self.refused(f"{place}: {key} {error.what}", error.remedy) from None

    def _span(self, name: str, value: Any, text: str, known: Spans, key: str, place: str) -> Spans:
        """The span that a column names by its text."""
        try:
            fault = f"is also marked as {name}" if name in known else fault_of_name(name)
            if fault:
                raise MarkError(fault, "give each span a name of its own")
            return {name: span_of(self.text(value, key, place), text)}
        except MarkError as error:
            raise self.refused(f"{place}: {key} {error.what}", error.remedy) from None

    def lacking(self, key: str, known: list[str]) -> str:
        part = "base" if key == self.input else "answer"
        where = "tasks.columns" if self.field == "tasks.files" else self.field
        shown = f" if it is one of {', '.join(known)}" if known else ""
        return f"name it by {where}: {{{part}: …}}{shown}"


_SPAN = re.compile(r"span_(\w+)")


def _blank(value: Any) -> bool:
    """Whether an optional column says nothing in a row, as an empty cell does."""
    return value is None or (isinstance(value, str) and not value.strip())
