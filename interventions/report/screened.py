"""Cells that a screen left out, as rows of a run's tables: figures show their places blank, and count them."""

from __future__ import annotations

import polars as pl

from patchboard.store.schema import MEASURED


def with_cells_not_run(table: pl.DataFrame, screen: pl.DataFrame) -> pl.DataFrame:
    """The table of effects or curves with a row of no query (``n`` 0, values NaN) for each screened cell and metric
    that it lacks, where the spec's order has the cell. screen: store.schema.SCREEN, no rows where there was none."""
    if screen.is_empty():
        return table
    keys = [name for name in table.columns if name in screen.columns and name not in ("metric", *MEASURED)]
    cells = screen.select(keys).unique(maintain_order=True)
    names = pl.concat([table["intervention"], cells["intervention"]]).unique(maintain_order=True).to_list()
    order = pl.DataFrame({"intervention": names}).with_row_index("of intervention")
    # a control stands where its cell does
    there = [name for name in keys if name not in ("control", "vector_task", "op", "strength")]
    places = cells.select(there).unique(maintain_order=True).with_row_index("place")
    metrics = table.filter(pl.col("metric") != "conversion").select("metric").unique(maintain_order=True)
    wanted = cells.join(metrics, how="cross")
    lacking = wanted.join(table, on=[*keys, "metric"], how="anti", nulls_equal=True)
    blank = lacking.with_columns(
        (pl.lit(0) if kind == pl.Int32 else pl.lit(float("nan"))).cast(kind).alias(name)
        for name, kind in MEASURED.items()
    )
    whole = pl.concat([table, blank.select(table.columns)])
    whole = whole.join(order, on="intervention", how="left", maintain_order="left")
    whole = whole.join(places, on=there, how="left", nulls_equal=True, maintain_order="left")
    ordered = whole.sort("of intervention", "place", maintain_order=True, nulls_last=True)
    return ordered.drop("of intervention", "place")
