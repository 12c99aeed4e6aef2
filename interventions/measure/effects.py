"""Effects of cells: mean of patched - clean, paired by query, with a bootstrap interval over queries.

``effects`` keeps tasks apart, ``curves`` pools them: every query of every task weighs the same, and
resampling stays within a task, since the tasks were chosen and the queries were drawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import polars as pl

from patchboard.measure.cell_matrices import CellMatrices, cell_matrices, merge_neighbours
from patchboard.measure.outcome_index import Outcomes
from patchboard.measure.statistics import Bootstrap
from patchboard.store.schema import CURVES, EFFECTS


def effects(outcomes: Outcomes, bootstrap: Bootstrap) -> pl.DataFrame:
    """One row per task, cell and metric: store.schema.EFFECTS, then the swept columns.

    Values are in the metric's unit; NaN where a cell has no query left.
    """
    return _table(outcomes, cell_matrices(outcomes, pooled=False), EFFECTS, bootstrap)


def curves(outcomes: Outcomes, bootstrap: Bootstrap) -> pl.DataFrame:
    """One row per cell and metric, pooled over tasks: store.schema.CURVES, then the swept columns.

    Where a task's queries meet several vectors (random draws), these are averaged within a query
    first: ten draws are not ten times as many queries.
    """
    return _table(outcomes, cell_matrices(outcomes, pooled=True), CURVES, bootstrap)


def _table(outcomes: Outcomes, several: Iterable[CellMatrices], schema: dict, bootstrap: Bootstrap) -> pl.DataFrame:
    measured = [
        _measure(part, bootstrap) for matrices in merge_neighbours(several) for part in matrices.parts(bootstrap)
    ]
    swept = {column: outcomes.cells.schema[column] for column in outcomes.swept}
    table = pl.concat(measured) if measured else pl.DataFrame(schema={**schema, **swept})
    return table.select(pl.col(column).cast(kind) for column, kind in {**schema, **swept}.items())


def _measure(matrices: CellMatrices, bootstrap: Bootstrap) -> pl.DataFrame:
    means, replicates = matrices.measured(bootstrap)
    low, high = replicates.interval(bootstrap.level)
    return matrices.cells.with_columns(**asdict(means), ci_low=low, ci_high=high)
