"""Raw scores -> one value for each query, cell and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from interventions.measure.metrics import METRICS
from interventions.plan.model import Group
from interventions.store.schema import OUTCOMES

ALWAYS = ("accuracy", "logprob")
"""Scored in every run: conversion is read from the one, the checks from the other."""

CONVERSION = "conversion"


def scored_metrics(metrics: Sequence[str]) -> list[str]:
    """What the engine must score for these metrics."""
    return [*ALWAYS, *(m for m in metrics if m not in (*ALWAYS, CONVERSION))]


def combine(
    prompt: np.ndarray, copy: np.ndarray, scores: Mapping[str, np.ndarray], moved: Mapping[int, float]
) -> pl.DataFrame:
    """Scores [read] -> a table ``query, copy, moved, <metric …>``, an answer's tokens combined.

    An answer's reads stand together in order, as ``lay_out`` makes them. moved: copy -> how far its
    edits moved any state.
    """
    starts = (
        np.flatnonzero(np.r_[True, (np.diff(prompt) != 0) | (np.diff(copy) != 0)]) if len(prompt) else np.array([], int)
    )
    columns: dict[str, Any] = {
        "query": prompt[starts].astype(np.int32),
        "copy": copy[starts].astype(np.int32),
        "moved": np.array([moved.get(int(c), np.nan) for c in copy[starts]], dtype=np.float64),
    }
    for name, values in scores.items():
        metric = METRICS.get(name, "metrics")
        columns[name] = np.array(
            [metric.combine(list(v)) for v in np.split(values.astype(np.float64), starts[1:])] if len(starts) else []
        )
    return pl.DataFrame(columns)


def value_arrays(group: Group, parts: pl.DataFrame) -> dict[str, np.ndarray]:
    """Metric -> [query, copy] with NaN where a copy could not be computed for a query."""
    out = {}
    for name in parts.columns:
        if name in ("query", "copy"):
            continue
        values = np.full((len(group.prompts), len(group.copies)), np.nan)
        values[parts["query"].to_numpy(), parts["copy"].to_numpy()] = parts[name].to_numpy()
        out[name] = values
    return out


def outcome_table(groups: Sequence[tuple[Group, Mapping[str, np.ndarray]]]) -> pl.DataFrame:
    """The rows of outcomes.parquet (store.schema.OUTCOMES, then the swept fields)."""
    swept = list(dict.fromkeys(path for g, _ in groups for use in g.uses for path, _ in use.cell.swept))
    tables = [_rows(group, values, swept) for group, values in groups if group.uses]
    if not tables:
        return pl.DataFrame(schema=OUTCOMES)
    table = pl.concat(tables)
    typed = [pl.col(name).cast(kind) for name, kind in OUTCOMES.items()]
    # a swept field's own column repeats `shots`, `seed` … under its path
    return table.select(*typed, *(pl.col(path) for path in swept))


def _rows(group: Group, values: Mapping[str, np.ndarray], swept: Sequence[str]) -> pl.DataFrame:
    cells, clean, patched = [], [], []
    for use in group.uses:
        fixed = {**use.cell.row, "shots": group.shots, "seed": group.seed}
        labels = {path: _plain(value) for path, value in use.cell.swept}
        for metric in group.metrics:
            if metric != CONVERSION:
                cells.append({**fixed, "metric": metric, **{path: labels.get(path) for path in swept}})
                clean.append(values[metric][:, 0])
                patched.append(values[metric][:, use.patched])
        if use.cell.converts_to:
            cells.append({**fixed, "metric": CONVERSION, **{path: labels.get(path) for path in swept}})
            differs = _answers_differ(group, use.cell.converts_to)
            clean.append(np.where(differs, values["accuracy"][:, use.clean_converted], np.nan))
            patched.append(np.where(differs, values["accuracy"][:, use.converted], np.nan))
    table = pl.DataFrame(cells, infer_schema_length=None, strict=False).with_row_index("cell")
    queries = len(group.prompts)
    undefined = np.isnan(np.stack(patched)) | np.isnan(np.stack(clean))
    measured = pl.DataFrame(
        {
            "cell": np.repeat(np.arange(len(cells), dtype=np.uint32), queries),
            "query": np.tile(np.arange(queries, dtype=np.int32), len(cells)),
            "clean": np.where(undefined, np.nan, np.stack(clean)).ravel(),
            "patched": np.where(undefined, np.nan, np.stack(patched)).ravel(),
        }
    )
    return measured.join(table, on="cell", maintain_order="left").with_columns(pl.lit(group.task).alias("task"))


def _answers_differ(group: Group, other: str) -> np.ndarray:
    """[query] whether the query's answers under the two tasks differ."""
    return np.array([p.alternatives.get(other) not in (None, p.answer_ids) for p in group.prompts])


def _plain(value: Any) -> Any:
    """A swept value as a table can hold it: scalars as they are, else their text."""
    from interventions.spec.axes import label

    return value if isinstance(value, (bool, int, float, str)) else label(value)
