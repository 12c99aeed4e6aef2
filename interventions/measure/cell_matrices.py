"""Cells that were measured on the same queries, and their values as matrices, one task at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from patchboard.measure.outcome_index import Ints, Outcomes
from patchboard.measure.statistics import Bootstrap, Floats, Replicates, drawn
from patchboard.plan.controls.unrelated import UNRELATED

ROLE = pl.when(pl.col("control") == UNRELATED).then(pl.lit(UNRELATED)).otherwise(pl.lit("evaluate")).alias("role")
"""Of a cell's row: whose prompts its queries are, as prompts.parquet's ``role`` calls them."""

OF_A_TASK = ("task", "vector_task")
"""Columns that a cell pooled over tasks has not."""

_VALUES_AT_ONCE = 1 << 20
"""Bounds the matrices held at once: 8 MiB each, a hundred cells of 10,000 queries."""


@dataclass(frozen=True)
class Means:
    """What was measured of some cells. All [cells]: mean values, queries in the mean, queries left out.

    Means are in the metric's unit, NaN where a cell has no query left. Of a normalised metric they are divided by the
    mean scale; where the interval of that holds 0 there is no telling the two ends apart, and no query counts.
    """

    clean: Floats
    patched: Floats
    effect: Floats
    n: Ints
    excluded: Ints


@dataclass(frozen=True)
class CellMatrices:
    """Cells that share their queries, and so their resamples. Its values are read when they are asked for.

    cells: one row a cell, with the columns that name it.
    members: [pairs, 2] (column of the matrices, index into ``outcomes.cells``): a pooled cell has one of each
    task, and several where a task's queries meet several vectors (random draws).
    queries: task -> its different queries, in order, over all of the cells.
    """

    outcomes: Outcomes
    cells: pl.DataFrame
    members: Ints
    queries: Mapping[str, Ints]

    def only(self, columns: Ints) -> CellMatrices:
        """Some of the cells, with the queries of all."""
        place = np.full(len(self.cells), -1)
        place[columns] = np.arange(len(columns))
        kept = self.members[place[self.members[:, 0]] >= 0]
        return replace(self, cells=self.cells[columns], members=np.stack([place[kept[:, 0]], kept[:, 1]], axis=1))

    def values(self, task: str, columns: slice) -> tuple[Floats, Floats, Floats | None]:
        """(clean, patched, scale) of one task, each [queries, columns]; NaN in all where a query is excluded.

        scale: None where the run has no normalised metric. Where a query meets several vectors its values are averaged:
        ten draws are not ten times as many queries.
        """
        column, cell = self.members.T
        of_task = (self.outcomes.cells["task"] == task).to_numpy()
        chosen = of_task[cell] & (column >= columns.start) & (column < columns.stop)
        place = np.full(len(of_task), -1)
        place[cell[chosen]] = column[chosen] - columns.start
        width = columns.stop - columns.start
        size = len(self.queries[task]) * width
        count, sums = np.zeros(size), np.zeros((3 if self.outcomes.normalised else 2, size))
        for rows in self.outcomes.rows(cell[chosen]):
            used = ~(np.isnan(rows.clean) | np.isnan(rows.patched))
            at = np.searchsorted(self.queries[task], rows.query[used]) * width + place[rows.cell[used]]
            count += np.bincount(at, minlength=size)
            for added, values in zip(sums, (rows.clean, rows.patched, rows.scale), strict=False):
                if values is not None:
                    added += np.bincount(at, values[used], size)
        with np.errstate(invalid="ignore"):
            clean, patched, *scale = (sums / count).reshape(len(sums), -1, width)
        return clean, patched, scale[0] if scale else None

    def measured(self, bootstrap: Bootstrap) -> tuple[Means, Replicates]:
        """Means over queries of all cells, and the replicates of their effects, tasks resampled within themselves.

        The replicates of all cells are held at once: ``parts`` makes pieces of which that can be asked.
        """
        sums, scales = np.zeros((3, len(self.cells))), np.zeros(len(self.cells))
        used = np.zeros(len(self.cells), dtype=np.int64)
        replicates = Replicates(len(self.cells), bootstrap.resamples)
        if self.outcomes.normalised:
            replicates.divisor = Replicates(len(self.cells), bootstrap.resamples)
        for task, queries in self.queries.items():
            at_once = max(1, _VALUES_AT_ONCE // len(queries))
            for resamples, counts in drawn(task, len(queries), bootstrap):
                for start in range(0, len(self.cells), at_once):
                    columns = slice(start, min(start + at_once, len(self.cells)))
                    clean, patched, scale = self.values(task, columns)
                    replicates.add(patched - clean, counts, columns, resamples)
                    if replicates.divisor is not None and scale is not None:
                        replicates.divisor.add(scale, counts, columns, resamples)
                        scales[columns] += np.nansum(scale, axis=0) * (resamples.start == 0)
                    if resamples.start == 0:
                        sums[:, columns] += [np.nansum(each, axis=0) for each in (clean, patched, patched - clean)]
                        used[columns] += (~np.isnan(clean)).sum(axis=0)
        all_queries = sum(map(len, self.queries.values()))
        if replicates.divisor is not None:
            used[_unsure(replicates.divisor, bootstrap.level)] = 0
            replicates.forget(used == 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            clean, patched, effect = np.where(used > 0, sums / (used if replicates.divisor is None else scales), np.nan)
        return Means(clean, patched, effect, used, all_queries - used), replicates

    def parts(self, bootstrap: Bootstrap) -> Iterator[CellMatrices]:
        """The cells in pieces whose replicates may be held together."""
        for start in range(0, len(self.cells), bootstrap.cells_at_once):
            yield self.only(np.arange(start, min(start + bootstrap.cells_at_once, len(self.cells))))


def _unsure(scales: Replicates, level: float) -> NDArray[np.bool_]:
    """[cells] where the interval of the mean scale holds 0."""
    low, high = scales.interval(level)
    return (low <= 0) & (high >= 0)


def cell_matrices(outcomes: Outcomes, pooled: bool) -> Iterator[CellMatrices]:
    """One per role of the prompts, shots, seed and swept fields (and task, unless pooled), in order of appearance.

    pooled: cells that differ in task or vector_task only are one cell.
    """
    if outcomes.cells.is_empty():
        return
    names = outcomes.cells.drop(OF_A_TASK) if pooled else outcomes.cells
    cell_of = _codes(names)
    different = names.unique(maintain_order=True)
    number_of = _codes(names.select(ROLE, "shots", "seed", *outcomes.swept, *([] if pooled else ["task"])))
    task = outcomes.cells["task"].to_list()
    for number in range(number_of.max() + 1):
        rows = np.flatnonzero(number_of == number)
        columns, column = np.unique(cell_of[rows], return_inverse=True)
        queries: dict[str, Ints] = {}
        for each in dict.fromkeys(task):  # in the order of all tasks: a cell's first value is the same in all of them
            of_task = {id(ids): ids for ids in (outcomes.queries[row] for row in rows if task[row] == each)}
            if of_task:
                queries[each] = np.unique(np.concatenate(list(of_task.values())))
        yield CellMatrices(outcomes, different[columns], np.stack([column, rows], axis=1), queries)


def merge_neighbours(several: Iterable[CellMatrices]) -> Iterator[CellMatrices]:
    """The same cells in the same order; neighbours of equal queries are made one, as their resamples are the same.

    So the settings of a sweep share their draws, which take longer than all else where queries are many.
    """
    alike: list[CellMatrices] = []
    for matrices in several:
        if alike and not _same_queries(alike[0], matrices):
            yield _one(alike)
            alike = []
        alike.append(matrices)
    if alike:
        yield _one(alike)


def _same_queries(one: CellMatrices, other: CellMatrices) -> bool:
    return list(one.queries) == list(other.queries) and all(
        np.array_equal(queries, other.queries[task]) for task, queries in one.queries.items()
    )


def _one(alike: Sequence[CellMatrices]) -> CellMatrices:
    starts = np.cumsum([0, *(len(matrices.cells) for matrices in alike)])
    members = [matrices.members + [start, 0] for matrices, start in zip(alike, starts[:-1], strict=True)]
    return replace(alike[0], cells=pl.concat([matrices.cells for matrices in alike]), members=np.concatenate(members))


def _codes(frame: pl.DataFrame) -> Ints:
    """[rows] the number of each row among the frame's different rows, in order of appearance."""
    numbered = frame.unique(maintain_order=True).with_row_index("code")
    codes = frame.join(numbered, on=frame.columns, how="left", nulls_equal=True, maintain_order="left")
    return codes["code"].cast(pl.Int64).to_numpy()
