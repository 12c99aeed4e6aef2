"""Pairs: a user's own tasks, each a JSON file ``[{"input": …, "output": …}, …]`` named by its stem.

An input that several files hold is one item with an answer under each of them. Null answers, where
wanted, are the output of a random row with another input.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from interventions.errors import TaskError
from interventions.spec.sections import Section
from tasks.base import FAMILIES, NULL, Item, normal_form
from tasks.files import sha256_of

WHERE = "tasks.files"


class _Row(BaseModel):
    """One line of a file; further keys, such as a comment, are let be."""

    model_config = ConfigDict(strict=True, frozen=True)
    input: Annotated[str, StringConstraints(pattern=r"\S")]
    output: Annotated[str, StringConstraints(pattern=r"\S")]


_ROWS = TypeAdapter(Annotated[list[_Row], Field(min_length=1)])


@dataclass(frozen=True)
class _Task:
    """A file's answers, and how many of its rows repeat an input with the same or with another output."""

    file: Path
    answers: dict[str, str]
    repeated: int
    contradicting: int


@FAMILIES.register("pairs")
class Pairs:
    """Tasks from files of pairs."""

    class Options(Section):
        files: Annotated[list[str], Field(min_length=1)] = Field(
            description="JSON files, folders of them, or glob patterns, from the working folder"
        )

    def __init__(self, tasks: Sequence[str], files: dict[str, Path]):
        """files: task -> its file, for all of ``tasks`` but Null. Raises TaskError where one is not pairs."""
        self.tasks = tuple(tasks)
        self.read = {task: _read(files[task]) for task in self.tasks if task != NULL}

    @classmethod
    def task_names(cls, options: Options) -> tuple[str, ...]:
        return tuple(find_files(options.files))

    @classmethod
    def build(cls, options: Options, tasks: tuple[str, ...], embedded: bool) -> Pairs:
        return cls(tasks, find_files(options.files))

    def data_files(self) -> Sequence[Path]:
        return [read.file for read in self.read.values()]

    def pool(self, seed: int) -> Sequence[Item]:
        answers: dict[str, dict[str, str]] = {}
        for task, read in self.read.items():
            for given, output in read.answers.items():
                answers.setdefault(given, {})[task] = output
        if NULL in self.tasks:
            self._add_null(answers, np.random.default_rng([seed, 0x9A125]))
        return [Item(given, found) for given, found in answers.items()]

    def _add_null(self, answers: dict[str, dict[str, str]], rng: np.random.Generator) -> None:
        """Null's answers. An input without any other input beside it has none."""
        rows = [row for read in self.read.values() for row in read.answers.items()]
        if len(set(map(normal_form, answers))) < 2:
            return
        for given, found in answers.items():
            other, output = given, ""
            while normal_form(other) == normal_form(given):  # ends: there is a row of another input
                other, output = rows[rng.integers(len(rows))]
            found[NULL] = output

    def describe(self) -> dict[str, Any]:
        """Per file: inputs, rows that repeat one, and those with another output (the first counts)."""
        files = {
            task: {
                "file": str(read.file),
                "sha256": sha256_of(read.file),
                "inputs": len(read.answers),
                "repeated": read.repeated,
                "contradicting": read.contradicting,
            }
            for task, read in self.read.items()
        }
        return {"family": "pairs", "files": files}


def find_files(patterns: Sequence[str]) -> dict[str, Path]:
    """Task name -> file, in the order given; those of a folder or glob by name.

    Raises TaskError where a pattern finds nothing, or two files would give tasks of one name.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        for file in _matches(pattern):
            name = file.stem
            if name == NULL:
                raise TaskError(WHERE, f"'{file}' would be a second task named {NULL}", "rename the file")
            if name in found and not found[name].samefile(file):
                what = f"'{found[name]}' and '{file}' would both be task '{name}'"
                raise TaskError(WHERE, what, "rename one of them")
            found.setdefault(name, file)
    return found


def _matches(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        files, what = sorted(path.glob("*.json")), "holds no .json file"
    else:
        files = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
        what = "matches no file" if glob.has_magic(pattern) else "does not exist"
    if not files:
        remedy = "give JSON files of {input, output}, a folder of them or a glob"
        raise TaskError(WHERE, f"'{pattern}' {what}", remedy)
    return files


def _read(file: Path) -> _Task:
    try:
        rows = _ROWS.validate_json(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except OSError as error:
        raise TaskError(WHERE, f"'{file}' cannot be read ({error.strerror})", "check the file") from None
    except ValidationError as error:
        raise _not_pairs(file, error) from None
    answers: dict[str, str] = {}
    for row in rows:
        answers.setdefault(row.input, row.output)
    contradicting = sum(answers[row.input] != row.output for row in rows)
    return _Task(file, answers, len(rows) - len(answers), contradicting)


def _not_pairs(file: Path, error: ValidationError) -> TaskError:
    finding = error.errors(include_url=False)[0]
    kind, at = finding["type"], finding["loc"]
    example = '{"input": "hot", "output": "cold"}'
    if kind == "json_invalid":
        reason = finding.get("ctx", {}).get("error", finding["msg"])
        return TaskError(WHERE, f"'{file}' is not JSON ({reason})", f"write [{example}, …]")
    if kind == "too_short":
        return TaskError(WHERE, f"'{file}' is an empty list, expected rows of input and output", "add rows")
    if not at:
        return TaskError(WHERE, f"'{file}' is no list of {{input, output}}", f"write [{example}, …]")
    row = f"row {at[0]} of '{file}'"  # counted from 0, as in JSON paths
    if len(at) == 1:
        return TaskError(WHERE, f"{row} is no {{input, output}}", f"write {example}")
    problem = {"missing": f"has no {at[1]}", "string_pattern_mismatch": f"has an empty {at[1]}"}
    what = problem.get(kind, f"has an {at[1]} that is not text")
    return TaskError(WHERE, f"{row} {what}", "give input and output as text in quotes")
