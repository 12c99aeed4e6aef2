"""Outcomes -> effects of each cell, and curves pooled over tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from interventions.measure.statistics import (
    mean_and_interval,
    nan_mean,
    percentile_interval,
    stratified_means,
)
from interventions.store.schema import CURVES, EFFECTS, MEASURED, OUTCOMES

_POOLED = ("task", "vector_task")


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the intervals: resamples, level (as 0.95), seed."""

    resamples: int
    level: float
    seed: int


def swept_columns(outcomes: pl.DataFrame) -> list[str]:
    """Columns beyond the schema: the swept fields by their paths."""
    return [name for name in outcomes.columns if name not in OUTCOMES]


def cell_keys(outcomes: pl.DataFrame) -> list[str]:
    """The columns that name a cell of one metric: all but the query and its values."""
    return [name for name in outcomes.columns if name not in ("query", "clean", "patched")]


def _wide(table: pl.DataFrame, keys: Sequence[str]) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """One row a cell, and clean, patched as [query, cell]."""
    grouped = table.sort("query").group_by(keys, maintain_order=True).agg("query", "clean", "patched")
    queries = int(table["query"].max()) + 1  # type: ignore[arg-type]
    arrays = np.full((2, queries, len(grouped)), np.nan)
    cell = np.repeat(np.arange(len(grouped)), grouped["query"].list.len().to_numpy())
    query = grouped["query"].explode().to_numpy()
    arrays[0, query, cell] = grouped["clean"].explode().to_numpy()
    arrays[1, query, cell] = grouped["patched"].explode().to_numpy()
    return grouped.select(keys), arrays[0], arrays[1]


def effects(outcomes: pl.DataFrame, bootstrap: Bootstrap) -> pl.DataFrame:
    """One row a cell and metric (store.schema.EFFECTS): mean of patched - clean, paired by query."""
    keys = cell_keys(outcomes)
    tables = []
    # cells of one task and number of shots have the same queries, hence the same resamples
    for _, part in outcomes.group_by(["task", "shots", "seed"], maintain_order=True):
        cells, clean, patched = _wide(part, keys)
        effect, low, high = mean_and_interval(patched - clean, bootstrap.level, bootstrap.resamples, bootstrap.seed)
        tables.append(_measured(cells, clean, patched, effect, low, high))
    return _typed(tables, EFFECTS, swept_columns(outcomes))


def curves(outcomes: pl.DataFrame, bootstrap: Bootstrap) -> pl.DataFrame:
    """One row a cell and metric (store.schema.CURVES), pooled over tasks and random draws.

    Draws are averaged within a query first; queries are redrawn within each task.
    """
    keys = [key for key in cell_keys(outcomes) if key not in _POOLED]
    means = outcomes.with_columns(pl.col("clean", "patched").fill_nan(None)).group_by(
        [*keys, "task", "query"], maintain_order=True
    ).agg(pl.col("clean", "patched").mean()).with_columns(pl.col("clean", "patched").fill_null(np.nan))  # fmt: skip
    tables = []
    for _, part in means.group_by(["shots", "seed"], maintain_order=True):
        cells = part.select(keys).unique(maintain_order=True).with_row_index("cell")
        strata_clean, strata_patched = [], []
        for _, rows in part.group_by("task", maintain_order=True):
            own, clean, patched = _wide(rows, keys)
            at = own.join(cells, on=keys, nulls_equal=True, maintain_order="left")["cell"].to_numpy()
            strata_clean.append(_spread(clean, at, len(cells)))
            strata_patched.append(_spread(patched, at, len(cells)))
        differences = [p - c for p, c in zip(strata_patched, strata_clean, strict=True)]
        low, high = percentile_interval(
            stratified_means(differences, bootstrap.resamples, bootstrap.seed), bootstrap.level
        )
        clean, patched = np.concatenate(strata_clean), np.concatenate(strata_patched)
        tables.append(_measured(cells.drop("cell"), clean, patched, nan_mean(patched - clean), low, high))
    return _typed(tables, CURVES, swept_columns(outcomes))


def _spread(values: np.ndarray, at: np.ndarray, cells: int) -> np.ndarray:
    out = np.full((len(values), cells), np.nan)
    out[:, at] = values
    return out


def _measured(
    cells: pl.DataFrame, clean: np.ndarray, patched: np.ndarray, effect: np.ndarray, low: np.ndarray, high: np.ndarray
) -> pl.DataFrame:
    n = (~np.isnan(patched - clean)).sum(0)
    return cells.with_columns(
        pl.Series("clean", nan_mean(clean)),
        pl.Series("patched", nan_mean(patched)),
        pl.Series("effect", effect),
        pl.Series("ci_low", low),
        pl.Series("ci_high", high),
        pl.Series("n", n),
        pl.Series("excluded", len(clean) - n),
    )


def _typed(tables: list[pl.DataFrame], schema: dict[str, pl.DataType], swept: Sequence[str]) -> pl.DataFrame:
    if not tables:
        return pl.DataFrame(schema=schema)
    columns = [name for name in schema if name not in MEASURED]
    return pl.concat(tables).select(
        *(pl.col(name).cast(schema[name]) for name in columns),
        *(pl.col(name).cast(kind) for name, kind in MEASURED.items()),
        *swept,
    )


def curve_resamples(outcomes: pl.DataFrame, bootstrap: Bootstrap) -> np.ndarray:
    """[resamples, layer]: the pooled effect curve of one intervention's rows (one metric) under each
    resample, layers in rising order."""
    strata = []
    layers = sorted(outcomes["layer"].unique())
    for _, rows in outcomes.group_by("task", maintain_order=True):
        own, clean, patched = _wide(rows, ["layer"])
        at = np.array([layers.index(layer) for layer in own["layer"]])
        strata.append(_spread(patched - clean, at, len(layers)))
    return stratified_means(strata, bootstrap.resamples, bootstrap.seed)
