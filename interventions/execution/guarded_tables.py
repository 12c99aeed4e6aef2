"""guardedness.parquet, from the parts of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl

from patchboard.execution.guardedness import GuardParts
from patchboard.execution.model_run import ModelRun
from patchboard.measure.guarded import guarded_rows
from patchboard.measure.outcomes import plain
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.model import Guarding
from patchboard.probes import PROBES
from patchboard.store.schema import GUARDED


def guarded_tables(run: ModelRun, bootstrap: Bootstrap) -> list[pl.DataFrame]:
    """A table for each cell that erases something, on each set of prompts."""
    return [table for guarding in run.plan.guardings for table in _of(run, guarding, bootstrap)]


def _of(run: ModelRun, guarding: Guarding, bootstrap: Bootstrap) -> Iterator[pl.DataFrame]:
    parts = GuardParts(run, guarding)
    points, probes = parts.points(), guarding.section.probes
    linear = [probe for probe in probes if PROBES[probe].linear]
    crossed, sampled = parts.given("clean")
    for number, guarded in enumerate(guarding.cells):
        cell, behind = guarded.cell, guarded.cell.layer - parts.first
        own_crossed, own_sampled = parts.given(number)
        fixed: dict[str, Any] = {name: cell.row[name] for name in GUARDED if name in cell.row}
        fixed |= {"half": guarding.half, "shots": guarding.shots}
        rows: list[dict[str, Any]] = []
        if own_crossed is not None and crossed is not None:
            told = {**fixed, "tested": "cross_validated"}
            rows += guarded_rows(points, told, probes, own_crossed, crossed[behind:], bootstrap)
        if own_sampled is not None and sampled is not None:
            told = {**fixed, "tested": "in_sample"}
            rows += guarded_rows(points, told, linear, own_sampled, sampled[behind : behind + 1], bootstrap)
        swept = {path: pl.lit(plain(value)) for path, value in cell.swept}
        yield pl.DataFrame(rows, schema=GUARDED, orient="row").with_columns(**swept)
