"""Values of single queries as the explorer lists them, and the prompts that they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from patchboard.plan.shown import every_nth
from patchboard.report.explorer.packed import Packed, Piece, rounded
from patchboard.report.explorer.prompts import marked_characters, prompts_at
from patchboard.report.explorer.tokens import Tokens
from patchboard.report.run_files import Run, read_json, read_table, scan_table
from patchboard.store.schema import CELL

KEY = [name for name in CELL if name != "vector_task"]
"""What tells a task's cells apart, beside swept fields and the metric."""


def query_data(run: Run, cells: pl.DataFrame, packed: Packed) -> tuple[dict[str, Any], list[Piece]]:
    """Each task's own cells query by query: what is common to all, and a piece for each intervention.

    Common: ``sets``, the prompts of each task and setting, and ``clean``, values of the unedited run. A piece has of
    each of its cells ``at``, its row in ``cells``, ``of``, its set, ``patched`` [cell, query of its set], and
    ``before``, where in ``clean`` those of the unedited run begin. Where the run kept ``tokens``, the last piece is
    what ``Tokens`` tells, and ``top`` where in it those of a cell begin."""
    own = scan_table(run.folder, "outcomes.parquet").filter(pl.col("control") == "")
    step = _every(run, own)
    numbered = cells.with_row_index("row").filter(pl.col("task") != "", pl.col("control") == "")
    keys = ["task", *KEY, *run.swept, "metric"]
    # of the outcomes' many columns, mostly text, none but these is held
    values = (
        own.filter(pl.col("query") % step == 0)
        .join(numbered.lazy().select(*keys, "row"), on=keys, how="inner", nulls_equal=True)
        .select("row", "query", "clean", "patched")
        .collect()
        .sort("row", "query")
    )
    swept = [name for name in run.swept if not name.startswith("interventions.")]
    of_prompt = ("task", "shots", "seed", *swept)
    tokens = Tokens(run.top_tokens, of_prompt, keys[:-1])
    sets = _Sets(read_table(run.folder, "prompts.parquet"), swept, of_prompt)
    of_sets: list[int] = []
    unedited = _Shared()
    parts: dict[str, _Part] = {}
    cell_of = dict(zip(numbered["row"], numbered.iter_rows(named=True), strict=True))
    rows, queries = values["row"].to_numpy(), values["query"].to_list()
    clean, patched = rounded(values["clean"]), rounded(values["patched"])
    first = np.flatnonzero(np.diff(rows, prepend=-1)).tolist()
    for start, stop in zip(first, [*first[1:], len(rows)], strict=True):
        cell = cell_of[int(rows[start])]
        chosen = parts.setdefault(cell["intervention"], _Part())
        chosen.at.append(cell["row"])
        number = sets.number(cell, queries[start:stop])
        if number == len(of_sets):
            of_sets.append(tokens.entry("clean", tuple(cell[name] for name in of_prompt), queries[start:stop]))
        chosen.of.append(number)
        chosen.top.append(tokens.entry("patched", tuple(cell[name] for name in keys[:-1]), queries[start:stop]))
        chosen.before.append(unedited.begin(clean[start:stop]))
        chosen.patched.append(patched[start:stop])
    common = {
        "step": step,
        "sets": sets.told(tokens),
        "clean": packed.numbers(unedited.values()),
        "parts": list(parts),
        "tokens": tokens.count > 0,
    }
    return common, [*(part.packed() for part in parts.values()), *([tokens.told(of_sets)] if tokens.count else [])]


def _every(run: Run, own: pl.LazyFrame) -> int:
    """Of how many queries one is shown: those of which tokens are kept, where any are."""
    if len(run.top_tokens):
        return read_json(run.folder, "plan.json")["shown_every"]
    return every_nth(own.select(pl.len()).collect().item())


@dataclass
class _Part:
    """What is told of one intervention's cells query by query."""

    at: list[int] = field(default_factory=list)
    of: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    top: list[int] = field(default_factory=list)
    patched: list[NDArray[np.float32]] = field(default_factory=list)

    def packed(self) -> Piece:
        packed = Packed()
        columns: dict[str, ArrayLike] = {"at": self.at, "of": self.of, "before": self.before, "top": self.top}
        columns["patched"] = np.concatenate(self.patched)
        return packed, {name: packed.numbers(column) for name, column in columns.items()}


class _Shared:
    """Arrays end to end, equal ones once."""

    def __init__(self) -> None:
        self._begins: dict[bytes, int] = {}
        self._parts: list[NDArray[np.float32]] = []
        self._count = 0

    def begin(self, array: NDArray[np.float32]) -> int:
        """Where the array begins."""
        key = array.tobytes()
        if key not in self._begins:
            self._begins[key] = self._count
            self._parts.append(array)
            self._count += len(array)
        return self._begins[key]

    def values(self) -> NDArray[np.float32]:
        return np.concatenate(self._parts) if self._parts else np.zeros(0, dtype=np.float32)


class _Sets:
    """The prompts of each task and setting, with the marks of each position that is edited in them."""

    def __init__(self, prompts: pl.DataFrame, swept: list[str], names: Sequence[str]) -> None:
        """swept: fields that the prompts may depend on. names: columns of a cell that tell sets apart."""
        self._prompts, self._swept, self._names = prompts, swept, names
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._sets: list[dict[str, Any]] = []

    def number(self, cell: Mapping[str, Any], queries: list[int]) -> int:
        """Of the set that a cell's queries are."""
        key = tuple(cell[name] for name in self._names)
        if key not in self._numbers:
            self._numbers[key] = len(self._sets)
            self._sets.append(_set(self._prompts, cell, self._swept, queries))
        chosen, position = self._sets[self._numbers[key]], cell["position"]
        if position not in chosen["marks"]:
            chosen["marks"][position] = [marked_characters(position, prompt) for prompt in chosen["rows"]]
        return self._numbers[key]

    def told(self, tokens: Tokens) -> list[dict[str, Any]]:
        """With the place of each answer's first token among the texts of ``tokens``, if it has any."""
        for each in self._sets if tokens.count else ():
            each["first"] = [tokens.place(row["answer_ids"][0]) for row in each["rows"]]
        return [{name: value for name, value in each.items() if name != "rows"} for each in self._sets]


def _set(prompts: pl.DataFrame, cell: Mapping[str, Any], swept: list[str], queries: list[int]) -> dict[str, Any]:
    fields = {"role": "evaluate", "task": cell["task"], "shots": cell["shots"]}
    rows = prompts_at(prompts, fields, {name: cell[name] for name in swept})
    by_query = {row["query"]: row for row in rows.iter_rows(named=True)}
    chosen = [by_query[query] for query in queries]
    return {
        "query": queries,
        "text": [row["text"] for row in chosen],
        "answer": [row["answer"] for row in chosen],
        "marks": {},
        "of": len(rows),
        "rows": chosen,
    }
