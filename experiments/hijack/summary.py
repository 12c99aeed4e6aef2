"""The numbers of an experiment that its findings, its page and its documentation quote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from patchboard.experiments.hijack.memories import previous_up_to, recall
from patchboard.experiments.hijack.settings import HijackSettings


def summarise(settings: HijackSettings, tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """summary.json: for each model its curve's end, its margins over all strengths and by strength, what its memories
    return, its heads by place; ``ideal`` is the knowing observer's, the same for all models."""
    models = []
    for key, curve in tables["training.parquet"].group_by("positions", "seed", maintain_order=True):
        of_model = {name: _of(table, key) for name, table in tables.items()}
        memories, margins = of_model["memories.parquet"], of_model["margins.parquet"]
        models.append(
            {
                "positions": key[0],
                "seed": key[1],
                "end": curve.drop("positions", "seed").row(-1, named=True),
                "memories": list(recall(memories)),
                "previous_up_to": previous_up_to(memories),
                "places": _plain(of_model["places.parquet"]),
                "margins": _plain(margins.filter(pl.col("strength").is_null()).drop("strength")),
                "by_strength": _plain(margins.filter(pl.col("kind") == "count", pl.col("strength").is_not_null())),
            }
        )
    return {"trained_length": settings.training.length, "longest": settings.longest, "models": models}


def _of(table: pl.DataFrame, key: tuple[Any, ...]) -> pl.DataFrame:
    of_model = table.filter(pl.col("positions") == key[0], pl.col("seed") == key[1])
    return of_model.drop("positions", "seed")


def _plain(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: no NaN."""
    return table.with_columns(pl.selectors.float().fill_nan(None)).to_dicts()
