"""What pages read out of run folders, where more than one does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

ALL = "ALL"
"""The label of a table's rows over all tasks."""


def json_of(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def cd_by_layer(folder: Path, task: str = ALL) -> dict[int, dict[str, list[float]]]:
    """Shots -> ``cd``, ``low``, ``high`` by layer, of a run's decodability.parquet."""
    table = pl.read_parquet(folder / "decodability.parquet").filter(pl.col("task") == task).sort("layer")
    return {
        shots: {"cd": part["cd"].to_list(), "low": part["ci_low"].to_list(), "high": part["ci_high"].to_list()}
        for (shots,), part in table.group_by(["shots"], maintain_order=True)
    }


def rows_by(rows: list[dict[str, Any]], key: str, *columns: str) -> dict[Any, dict[str, Any]]:
    """Of a summary's rows: the key's value -> these columns."""
    return {row[key]: {column: row[column] for column in columns} for row in rows}
