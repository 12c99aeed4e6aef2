"""A user's own tasks: JSON files of {input, output} pairs, each file a task."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from interventions.errors import SpecError, TaskError
from interventions.spec.sections import Section
from tasks.base import FAMILIES, NULL, Item


@FAMILIES.register("pairs")
class Pairs:
    """Tasks named by their files' stems. An input that two files hold has an answer under both."""

    class Options(Section):
        files: Annotated[list[str], Field(min_length=1, description="files, folders or globs")]

    def __init__(self, rows: dict[str, dict[str, str]], tasks: tuple[str, ...], repeated: dict[str, int]):
        self.rows, self.tasks, self.repeated = rows, tasks, repeated

    @classmethod
    def task_names(cls, options: Options) -> tuple[str, ...]:
        return tuple(_paths(options.files))

    @classmethod
    def build(cls, options: Options, tasks: tuple[str, ...], embedded: bool) -> Pairs:
        rows, repeated = {}, {}
        for name, path in _paths(options.files).items():
            if name in tasks:
                rows[name], repeated[name] = _read(path)
        return cls(rows, tasks, repeated)

    def pool(self, seed: int) -> Sequence[Item]:
        """Every input once. Its answer under Null is that of another row, drawn at random."""
        answers: dict[str, dict[str, str]] = {}
        for task, rows in self.rows.items():
            for given, output in rows.items():
                answers.setdefault(given, {})[task] = output
        if NULL in self.tasks:
            every = [output for rows in self.rows.values() for output in rows.values()]
            rng = np.random.default_rng([seed, 0x9A15])
            for own, i in zip(answers.values(), rng.integers(len(every), size=len(answers)), strict=True):
                own[NULL] = every[i]
        return [Item(given, own) for given, own in answers.items()]

    def describe(self) -> dict[str, Any]:
        return {
            "family": "pairs",
            "rows": {task: len(rows) for task, rows in self.rows.items()},
            "inputs answered twice (first answer kept)": self.repeated,
        }


def _paths(patterns: Sequence[str]) -> dict[str, Path]:
    """Task name -> file, in the order given. Raises SpecError at ``tasks.files``."""
    found: dict[str, Path] = {}
    for i, pattern in enumerate(patterns):
        where = f"tasks.files[{i}]"
        path = Path(pattern)
        if path.is_dir():
            matches = sorted(path.glob("*.json"))
        else:
            matches = [path] if path.is_file() else sorted(map(Path, glob.glob(pattern, recursive=True)))
        if not matches:
            raise SpecError(where, f"'{pattern}' is no JSON file or folder of them", "give files, folders or globs")
        for match in matches:
            if found.get(match.stem, match) != match:
                raise SpecError(where, f"two files give the task '{match.stem}'", "rename one of them")
            found[match.stem] = match
    if NULL in found:
        raise SpecError("tasks.files", f"a task cannot be called {NULL}", "rename the file")
    return found


def _read(path: Path) -> tuple[dict[str, str], int]:
    """Input -> output, and how many rows gave an input a second, other answer. Raises TaskError."""
    remedy = 'it must hold a JSON list of {"input": "…", "output": "…"}'
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TaskError(str(path), f"cannot be read as JSON ({error})", remedy) from None
    if not isinstance(data, list) or not data:
        raise TaskError(str(path), "is not a list of pairs" if data else "holds no pairs", remedy)
    rows: dict[str, str] = {}
    repeated = 0
    for i, row in enumerate(data):
        if not isinstance(row, dict) or not all(isinstance(row.get(k), str) and row[k].strip() for k in ("input", "output")):
            raise TaskError(f"{path}[{i}]", "is not a pair of two texts", remedy)
        repeated += rows.setdefault(row["input"].strip(), row["output"].strip()) != row["output"].strip()
    return rows, repeated
