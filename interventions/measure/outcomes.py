"""Raw scores -> one value for each query, cell and metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.measure.scored_group import ScoredGroup
from patchboard.metrics import METRICS, Metric
from patchboard.metrics.base import against_source, is_normalised, known
from patchboard.plan.layout import answer_starts
from patchboard.plan.model import Group, ScoredCell
from patchboard.store.schema import OUTCOMES, SCALE, swept_of

ALWAYS = ("accuracy", "logprob")
"""Scored in every run: conversion is read from the one, the checks from the other."""

CONVERSION = "conversion"

_ROWS_AT_ONCE = 1 << 14
"""Rows held at once with all of their columns, which are mostly text: about 6 MB."""


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
    starts = answer_starts(prompt, copy)
    values = {name: combined(METRICS.get(name, "metrics").combine, each, starts) for name, each in scores.items()}
    return answer_table(prompt[starts], copy[starts], values, moved)


def combined(combine: Callable[..., np.ndarray], scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """[read] -> [answer], float32 as the scores are: added up in float64. Runs where the scores are."""
    values = combine(scores.astype(np.float64), starts) if len(starts) else scores
    return values.astype(np.float32)


def answer_table(
    query: np.ndarray, copy: np.ndarray, values: Mapping[str, np.ndarray], moved: Mapping[int, float]
) -> pl.DataFrame:
    """One row an answer. values: metric -> [answer]."""
    columns: dict[str, Any] = {
        "query": query.astype(np.int32),
        "copy": copy.astype(np.int32),
        "moved": np.array([moved.get(c, np.nan) for c in copy.tolist()], dtype=np.float64),
    }
    return pl.DataFrame(columns | {name: each.astype(np.float64) for name, each in values.items()})


def outcome_schema(groups: Iterable[Group]) -> dict[str, pl.DataType]:
    """The columns of outcomes.parquet: store.schema.OUTCOMES, SCALE where a metric is normalised, then the swept fields
    of all groups.

    A swept field's own column repeats `shots`, `seed` … under its path.
    """
    groups = list(groups)
    normalised = any(is_normalised(known(name)) for group in groups for name in group.metrics)
    return {**OUTCOMES, **(SCALE if normalised else {}), **swept_schema(groups)}


def swept_schema(groups: Iterable[Group]) -> dict[str, pl.DataType]:
    """Columns of the swept fields of all groups."""
    swept: dict[str, dict[str, Any]] = {}  # path -> values by their text, in which 1 and True differ
    for cell in (use.cell for group in groups for use in group.uses):
        for path, value in cell.swept:
            swept.setdefault(path, {})[repr(value)] = plain(value)
    return {path: pl.Series(list(values.values()), strict=False).dtype for path, values in swept.items()}


def outcome_rows(scored: ScoredGroup, schema: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    """The group's rows of outcomes.parquet, a few cells at a time. schema: as ``outcome_schema`` gives it."""
    group = scored.group
    cells, clean, patched, scales = _measured(scored, swept_of(schema))
    queries = np.arange(len(group.prompts), dtype=np.int32)
    at_once = max(1, _ROWS_AT_ONCE // len(queries))
    for start in range(0, len(cells), at_once):
        some = slice(start, start + at_once)
        names = pl.DataFrame(cells[some], infer_schema_length=None, strict=False)
        before, after, scale = (np.stack(values[some]) for values in (clean, patched, scales))
        undefined = np.isnan(before) | np.isnan(after)
        of_cell = np.repeat(np.arange(len(names), dtype=np.uint32), len(queries))
        yield (
            names[of_cell]
            .with_columns(
                task=pl.lit(group.task),
                query=np.tile(queries, len(names)),
                clean=np.where(undefined, np.nan, before).ravel(),
                patched=np.where(undefined, np.nan, after).ravel(),
                scale=pl.Series(scale.ravel(), nan_to_null=True),
            )
            .select(pl.col(name).cast(kind) for name, kind in schema.items())
        )


def _measured(
    scored: ScoredGroup, swept: Sequence[str]
) -> tuple[list[dict[str, Any]], list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """What names each cell and metric, and its values [query]: clean, patched, and the scale of a normalised metric
    (NaN of others)."""
    group, values = scored.group, scored.values
    cells, clean, patched, scales = [], [], [], []
    none = np.full(len(group.prompts), np.nan)
    differing = {
        other: np.array([prompt.differs(other) for prompt in group.prompts])
        for other in {use.cell.converts_to for use in group.uses}
        if other
    }
    for use in group.uses:
        labels = {path: plain(value) for path, value in use.cell.swept}
        fixed = {**use.cell.row, "shots": group.shots, "seed": group.seed, **{path: labels.get(path) for path in swept}}
        for metric in group.metrics:
            if metric != CONVERSION:
                cells.append({**fixed, "metric": metric})
                before, after, scale = _values(values[metric], use, known(metric), group.corrupted)
                clean.append(before)
                patched.append(after)
                scales.append(scale)
        if use.cell.converts_to:
            cells.append({**fixed, "metric": CONVERSION})
            differs = differing[use.cell.converts_to]
            clean.append(np.where(differs, values["accuracy"][:, use.clean_converted], np.nan))
            patched.append(np.where(differs, values["accuracy"][:, use.converted], np.nan))
            scales.append(none)
    return cells, clean, patched, scales


def _values(
    values: np.ndarray, use: ScoredCell, metric: type[Metric] | None, corrupted: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clean, patched and scale of one metric in one cell, each [query]. values: of the metric, [query, copy].

    All are NaN where the cell has not the run that the metric needs.
    """
    clean, patched, none = values[:, 0], values[:, use.patched], np.full(len(values), np.nan)
    if against_source(metric):
        return (values[:, use.clean_against], values[:, use.against], none) if use.against >= 0 else (none, none, none)
    if not is_normalised(metric):
        return clean, patched, none
    if use.far_end < 0:
        return none, none, none
    far_end = values[:, use.far_end]
    zero, one = (clean, far_end) if corrupted else (far_end, clean)
    return clean - zero, patched - zero, one - zero


def plain(value: Any) -> Any:
    """A swept value as a table can hold it: scalars as they are, else their text."""
    from patchboard.spec.axes import label

    return value if isinstance(value, (bool, int, float, str)) else label(value)
