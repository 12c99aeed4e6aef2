"""Files of pairs: which ones are meant, and their rows by the kind that the suffix tells.

`.json`: a list of objects, or one object of inputs and outputs. `.jsonl`: an object a line. `.csv`, `.tsv`: a
header, and fields in double quotes where they hold separators, quotes or line breaks (RFC 4180).
"""

from __future__ import annotations

import codecs
import csv
import glob
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from patchboard.errors import TaskError
from patchboard.tasks.base import NULL
from patchboard.tasks.pair_rows import Row, Source
from patchboard.user_paths import expanded

WHERE = "tasks.files"

_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as the mark of UTF-16 does
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark -> the encoding that it stands for; spreadsheets write tables in UTF-16."""


def find_files(patterns: Sequence[str]) -> dict[str, Path]:
    """Task name -> file, in the order given; those of a folder or glob by name.

    Raises TaskError where a pattern finds nothing, or two files would give tasks of one name.
    """
    file_of: dict[str, Path] = {}
    for file in matching_files(patterns):
        name = file.stem
        if name == NULL:
            raise TaskError(WHERE, f"'{file}' would be a second task named {NULL}", "rename the file")
        if name in file_of and not file_of[name].samefile(file):
            what = f"'{file_of[name]}' and '{file}' would both be task '{name}'"
            raise TaskError(WHERE, what, "rename one of them")
        file_of.setdefault(name, file)
    return file_of


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """The files in the order given, each once; those of a folder or glob by name. Raises TaskError."""
    return list({file.absolute(): file for pattern in patterns for file in _matches(pattern)}.values())


def _matches(pattern: str) -> list[Path]:
    path = expanded(pattern)
    if path.is_file():
        if path.suffix.lower() not in _KINDS:
            what = f"'{pattern}' is no file of a known kind ({_SUFFIXES})"
            raise TaskError(WHERE, what, "rename it to the suffix that tells what it holds")
        return [path]
    if path.is_dir():
        matches, what = (p for p in path.iterdir() if not p.name.startswith(".")), f"holds no {_SUFFIXES} file"
    else:
        matches = map(Path, glob.glob(str(path), recursive=True))
        what = f"matches no file ({_SUFFIXES})" if glob.has_magic(pattern) else "does not exist"
    files = sorted(p for p in matches if p.suffix.lower() in _KINDS and p.is_file())
    if not files:
        remedy = "give files of pairs {input, output}, a folder of them or a glob"
        raise TaskError(WHERE, f"'{pattern}' {what}", remedy)
    return files


def read_rows(file: Path, source: Source) -> list[Row]:
    """All pairs of the file, in order. Raises TaskError, which names the row or line, where it holds something else."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise source.refused(f"'{file}' cannot be read ({error.strerror})", "check the file") from None
    encoding = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"line {line} of '{file}' is not {encoding.upper().removesuffix('-SIG')}"
        raise source.refused(what, "save it as UTF-8") from None
    rows = list(_KINDS[file.suffix.lower()](text, str(file), source))
    if not rows:
        raise source.refused(f"'{file}' is empty, expected rows of input and output", "add rows")
    return rows


class _Object(dict[str, Any]):
    """A JSON object with its keys in order, those that stand in it twice as well."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        self.pairs = pairs


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no value of JSON")


def _parsed(text: str) -> Any:
    """JSON with numbers as they are written. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _json(text: str, file: str, source: Source) -> Iterator[Row]:
    try:
        content = _parsed(text)
    except ValueError as error:
        lines = isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        remedy = "name it .jsonl if each line is an object of its own" if lines else f"write [{source.example}, …]"
        raise source.refused(f"'{file}' is not JSON ({error})", remedy) from None
    if isinstance(content, _Object):
        yield from _of_object(content, file, source)
        return
    if content == []:
        raise source.refused(f"'{file}' is an empty list, expected rows of input and output", "add rows")
    if not isinstance(content, list):
        what = f"'{file}' is no list of {{{source.input}, {source.output}}}"
        raise source.refused(what, f"write [{source.example}, …]")
    for i, record in enumerate(content):
        yield _once(record, f"row {i} of '{file}'", source)  # counted from 0, as in JSON paths


def _of_object(record: _Object, file: str, source: Source) -> Iterator[Row]:
    """Pairs of an object ``{input: output, …}``. An object that is itself a row is no such thing."""
    if {source.input, source.output} <= record.keys():
        what = f"'{file}' is no list of {{{source.input}, {source.output}}} but a single one"
        raise source.refused(what, f"write [{source.example}, …]")
    for key, output in record.pairs:
        place = f"key '{key}' of '{file}'"
        if isinstance(output, (_Object, list)) and any(isinstance(each, _Object) for each in (output, *output)):
            what = f"{place} holds no output but further objects"
            raise source.refused(what, f'write [{source.example}, …] or {{"hot": "cold", …}}')
        yield source.pair(key, output, place)


def _once(record: Any, place: str, source: Source) -> Row:
    """The row that a JSON object holds, if it gives each of its two keys once."""
    keys = [key for key, _ in record.pairs] if isinstance(record, _Object) else []
    twice = next((key for key in source.single(keys) if keys.count(key) > 1), None)
    if twice:
        raise source.refused(f"{place} gives {twice} {keys.count(twice)} times", "leave one")
    return source.row(record, place)


def _json_lines(text: str, file: str, source: Source) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would also break at U+2028 inside a text
        if not line.strip():
            continue
        place = f"line {number} of '{file}'"
        try:
            record = _parsed(line)
        except ValueError as error:
            remedy = "name it .json if it is one list or object" if line.strip() in "[{" else f"write {source.example}"
            raise source.refused(f"{place} is not JSON ({error})", remedy) from None
        yield _once(record, place, source)


def _table(separator: str) -> Callable[[str, str, Source], Iterator[Row]]:
    def rows(text: str, file: str, source: Source) -> Iterator[Row]:
        header = next(csv.reader(io.StringIO(text), delimiter=separator), [])
        # "input, output" says that the file sets a space behind each separator
        spaced = len(header) > 1 and all(name.startswith(" ") for name in header[1:])
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=spaced)
        try:
            names = [name.strip() for name in next(reader, [])]
            _check_header(names, separator, file, source)
            end = reader.line_num
            for fields in reader:
                place, end = f"line {end + 1} of '{file}'", reader.line_num  # a field may go over several
                if not fields:
                    continue
                if len(fields) != len(names):
                    what = f"{place} has {len(fields)} fields, the header has {len(names)}"
                    raise source.refused(what, f"put fields that hold {_SEPARATORS[separator]} in double quotes")
                yield source.row(dict(zip(names, fields, strict=True)), place)
        except csv.Error as error:
            what = f"line {reader.line_num} of '{file}' is no line of a table ({error})"
            raise source.refused(what, "put fields in double quotes, and double the quotes inside") from None

    return rows


def _check_header(names: list[str], separator: str, file: str, source: Source) -> None:
    for column in source.single(names):
        if names.count(column) > 1:
            raise source.refused(f"'{file}' has {names.count(column)} columns '{column}'", "rename all but one")
    for column in (source.input, source.output):
        if names and column not in names:
            shown = ", ".join(f"'{name}'" for name in names)
            what = f"line 1 of '{file}' has no column '{column}' but {shown}"
            other = next((name for sign, name in _SEPARATORS.items() if sign in names[0]), None)
            if len(names) == 1 and other:
                raise source.refused(what, f"its columns are apart by {other}: save it with {_SEPARATORS[separator]}")
            raise source.refused(what, f"begin with a header line, or {source.lacking(column, names)}")


_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_KINDS: dict[str, Callable[[str, str, Source], Iterator[Row]]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".csv": _table(","),
    ".tsv": _table("\t"),
}
_SUFFIXES = " or ".join([", ".join([*_KINDS][:-1]), [*_KINDS][-1]])
