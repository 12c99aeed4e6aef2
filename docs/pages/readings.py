"""What pages read out of run folders, where more than one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

ALL = "ALL"
"""The label of a table's rows over all tasks."""

FLOORS = ("twin", "twin_low", "twin_high", "above_twin", "above_twin_low", "above_twin_high", "shuffled")
"""Columns of decodability.parquet beside CD, where the spec asks for them: of an untrained twin, of shuffled labels."""


def json_of(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def cd_by_layer(folder: Path, task: str = ALL) -> dict[int, dict[str, list[float]]]:
    """Shots -> ``cd``, ``low``, ``high`` by layer, of a run's decodability.parquet, and its floors if there."""
    return cd_of(pl.read_parquet(folder / "decodability.parquet"), task)


def cd_of(decodability: pl.DataFrame, task: str = ALL) -> dict[int, dict[str, list[float]]]:
    """`cd_by_layer` of rows that differ in task, layer and shots alone."""
    table = decodability.filter(pl.col("task") == task).sort("layer", "shots")
    names = {"cd": "cd", "ci_low": "low", "ci_high": "high"} | {name: name for name in FLOORS if name in table.columns}
    return {
        shots: {name: part[column].to_list() for column, name in names.items()}
        for (shots,), part in table.group_by(["shots"], maintain_order=True)
    }


def rows_by(rows: list[dict[str, Any]], key: str, *columns: str) -> dict[Any, dict[str, Any]]:
    """Of a summary's rows: the key's value -> these columns."""
    return {row[key]: {column: row[column] for column in columns} for row in rows}


def effects_by_layer(folder: Path, metric: str = "accuracy") -> dict[int, dict[str, dict[str, dict[str, list[float]]]]]:
    """Shots -> intervention -> control ("own": the intervention itself) -> ``effect``, ``low``, ``high``, ``patched``
    by layer, pooled over tasks, of a run's curves.parquet."""
    table = pl.read_parquet(folder / "curves.parquet").filter(metric=metric).sort("layer")
    found: dict[int, dict[str, dict[str, dict[str, list[float]]]]] = {}
    for keys, part in table.group_by(["shots", "intervention", "control"], maintain_order=True):
        shots, intervention, control = keys
        found.setdefault(shots, {}).setdefault(intervention, {})[control or "own"] = {
            "effect": part["effect"].to_list(),
            "low": part["ci_low"].to_list(),
            "high": part["ci_high"].to_list(),
            "patched": part["patched"].to_list(),
        }
    return found


def clean(folder: Path, metric: str = "accuracy") -> dict[int, float]:
    """Shots -> the metric without an edit, mean over all tasks' queries."""
    table = pl.read_parquet(folder / "curves.parquet").filter(metric=metric, control="self")
    return dict(table.group_by("shots", maintain_order=True).agg(pl.col("clean").mean()).sort("shots").iter_rows())
