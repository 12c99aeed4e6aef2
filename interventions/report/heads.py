"""Interventions that edit several heads of a layer: which rows are theirs, and their largest effects."""

from __future__ import annotations

from typing import Any

import polars as pl

from patchboard.report.run_files import Run, at_setting, setting_label, settings_of
from patchboard.report.style import in_order
from patchboard.spec.keep import FIRST

TOP = 10
"""Heads of the page's table."""

_HEADS = "heads at a layer"


def of_heads(table: pl.DataFrame, swept: list[str]) -> pl.DataFrame:
    """The rows of interventions, at swept settings, that have cells of several heads at one layer."""
    return _counted(table, swept).filter(pl.col(_HEADS) > 1).drop(_HEADS)


def without_heads(table: pl.DataFrame, swept: list[str]) -> pl.DataFrame:
    """All other rows: those that a line over layers can show."""
    return _counted(table, swept).filter(pl.col(_HEADS) <= 1).drop(_HEADS)


def _counted(table: pl.DataFrame, swept: list[str]) -> pl.DataFrame:
    """The table with the most heads that any layer has, of each row's intervention and setting."""
    own = ["intervention", *swept]
    kept = [pl.col(path).is_null() for path in swept if path.endswith(f".{FIRST}")]
    table = table.filter(*kept)  # sets of heads have figures of their own
    counted = table.with_columns(pl.col("head").n_unique().over(*own, "layers").alias(_HEADS))
    return counted.with_columns(pl.col(_HEADS).max().over(own))


def top_heads(run: Run) -> list[dict[str, Any]]:
    """The TOP largest effects on the first metric of each such intervention and setting, over all queries.

    A dict each: ``name``; ``at``, the setting in words; ``rows`` of the curves, largest effect first and none of
    an effect of 0, each with ``controls``, name -> row at the same head; ``of``, the number of heads.
    """
    table = of_heads(run.places.filter(pl.col("metric") == run.metric), run.swept).filter(pl.col("n") > 0)
    heads = []
    for name in table["intervention"].unique(maintain_order=True):
        mine = table.filter(pl.col("intervention") == name)
        for setting in settings_of(mine, run.swept):
            here = at_setting(mine, setting, run.swept)
            own, others = here.filter(pl.col("control") == ""), here.filter(pl.col("control") != "")
            moved = own.filter(pl.col("effect") != 0)
            largest = moved.sort(pl.col("effect").abs(), descending=True, maintain_order=True).head(TOP)
            rows = [{**row, "controls": _controls(others, row)} for row in largest.iter_rows(named=True)]
            heads.append({"name": name, "at": setting_label(setting), "rows": rows, "of": len(own)})
    return heads


def _controls(others: pl.DataFrame, row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    there = others.filter(pl.col("layers") == row["layers"], pl.col("head") == row["head"])
    by_name = {each["control"]: each for each in there.iter_rows(named=True)}
    return {name: by_name[name] for name in in_order(by_name)}
