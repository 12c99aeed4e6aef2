"""Effects of cells: mean of patched - clean, paired by query, with a bootstrap interval over queries.

``effects`` keeps tasks apart, ``curves`` pools them: every query of every task weighs the same, and
resampling stays within a task, since the tasks were chosen and the queries were drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from interventions.measure.statistics import Bootstrap, Floats, interval
from interventions.store.schema import CURVES, EFFECTS, OUTCOMES

_OF_A_QUERY = ("query", "clean", "patched")
_OF_A_TASK = ("task", "vector_task")


@dataclass(frozen=True)
class Block:
    """The cells that were measured on the same queries, as matrices.

    cells: one row a cell, with the columns that name it.
    clean, patched: [rows, cells]; NaN in both where a query is excluded from a cell.
    tasks: [rows] the task of each row's query.
    """

    cells: pl.DataFrame
    clean: Floats
    patched: Floats
    tasks: tuple[str, ...]

    @property
    def difference(self) -> Floats:
        return self.patched - self.clean


def effects(outcomes: pl.DataFrame, bootstrap: Bootstrap) -> pl.DataFrame:
    """One row per task, cell and metric: store.schema.EFFECTS, then the swept columns.

    outcomes: store.schema.OUTCOMES, and a column for each swept field.
    Values are in the metric's unit; NaN where a cell has no query left.
    """
    return _table(outcomes, blocks(outcomes, pooled=False), EFFECTS, bootstrap)


def curves(outcomes: pl.DataFrame, bootstrap: Bootstrap) -> pl.DataFrame:
    """One row per cell and metric, pooled over tasks: store.schema.CURVES, then the swept columns.

    Where a task's queries meet several vectors (random draws), these are averaged within a query
    first: ten draws are not ten times as many queries.
    """
    return _table(outcomes, blocks(outcomes, pooled=True), CURVES, bootstrap)


def swept_columns(outcomes: pl.DataFrame) -> list[str]:
    """Columns beyond the schema's: swept fields, by their dotted path."""
    return [column for column in outcomes.columns if column not in OUTCOMES]


def blocks(outcomes: pl.DataFrame, pooled: bool) -> Iterator[Block]:
    """The outcomes as matrices, one block per shots, seed and swept fields (and task, unless pooled).

    pooled: cells that differ in task or vector_task only are one cell.
    """
    keys = [column for column in outcomes.columns if column not in _OF_A_QUERY]
    measured = outcomes.group_by(keys, maintain_order=True).agg(*_OF_A_QUERY)
    names = measured.select(key for key in keys if not (pooled and key in _OF_A_TASK))
    same_queries = ["shots", "seed", *swept_columns(outcomes)] + ([] if pooled else ["task"])

    sizes = measured["query"].list.len().to_numpy()
    cell_of = np.repeat(_codes(names), sizes)
    block_of = np.repeat(_codes(names.select(same_queries)), sizes)
    task_of = np.repeat(_codes(measured.select("task")), sizes)
    tasks = measured["task"].unique(maintain_order=True).to_list()
    query, clean, patched = (measured[name].explode(empty_as_null=False).to_numpy() for name in _OF_A_QUERY)
    cells = names.unique(maintain_order=True)
    span = int(query.max()) + 1 if len(query) else 1  # query + task * span numbers the queries of all tasks

    order = np.argsort(block_of, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(block_of[order])) + 1) if len(order) else []:
        queries, row = _distinct(query[rows] + task_of[rows] * span)
        columns, column = _distinct(cell_of[rows])
        shape = (len(queries), len(columns))
        used = ~(np.isnan(clean[rows]) | np.isnan(patched[rows]))
        place = (row * shape[1] + column)[used]
        yield Block(
            cells[columns],
            _mean_at(place, clean[rows][used], shape),
            _mean_at(place, patched[rows][used], shape),
            tuple(tasks[code] for code in queries // span),
        )


def _codes(frame: pl.DataFrame) -> np.ndarray:
    """[rows] the number of each row among the frame's different rows, in order of appearance."""
    numbered = frame.unique(maintain_order=True).with_row_index("code")
    codes = frame.join(numbered, on=frame.columns, how="left", nulls_equal=True, maintain_order="left")
    return codes["code"].cast(pl.Int64).to_numpy()


def _distinct(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different codes in order, and each one's number among them: np.unique, for small integers.

    Counting takes a twentieth of the time that sorting a million rows does.
    """
    present = np.bincount(codes) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[codes]


def _mean_at(place: np.ndarray, values: Floats, shape: tuple[int, int]) -> Floats:
    """A matrix holding the mean of the values that fall on each entry, NaN where none does."""
    count = np.bincount(place, minlength=shape[0] * shape[1])
    with np.errstate(invalid="ignore"):
        return (np.bincount(place, values, minlength=len(count)) / count).reshape(shape)


def _table(outcomes: pl.DataFrame, parts: Iterator[Block], schema: dict, bootstrap: Bootstrap) -> pl.DataFrame:
    measured = [_measure(block, bootstrap) for block in parts]
    swept = {column: outcomes.schema[column] for column in swept_columns(outcomes)}
    table = pl.concat(measured) if measured else pl.DataFrame(schema={**schema, **swept})
    return table.select(pl.col(column).cast(kind) for column, kind in {**schema, **swept}.items())


def _measure(block: Block, bootstrap: Bootstrap) -> pl.DataFrame:
    low, high = interval(block.difference, bootstrap, block.tasks)
    used = (~np.isnan(block.clean)).sum(axis=0)

    def mean(values: Floats) -> Floats:
        with np.errstate(invalid="ignore"):
            return np.nansum(values, axis=0) / used

    return block.cells.with_columns(
        clean=mean(block.clean),
        patched=mean(block.patched),
        effect=mean(block.difference),
        ci_low=low,
        ci_high=high,
        n=used,
        excluded=len(block.tasks) - used,
    )
