"""The tables of a W&B run: effects with intervals, by task and pooled, CD, what a screen estimated, and texts."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
import polars.selectors as cs

from patchboard.report.run_files import Run

MOST_ROWS = 10_000
"""Rows of a table in W&B's pages; the parquet files have all of them."""


def tables(run: Run) -> Mapping[str, pl.DataFrame]:
    """Name -> table, columns as in docs/run-folder.md: ``effects`` by task, ``curves`` pooled, ``decodability``,
    ``probes``, ``guardedness``, ``screen``, ``texts``, ``learned``.

    The interventions themselves on the first metric come first, so that a cut leaves what matters.
    """
    first = [pl.col("metric") != run.metric, pl.col("control") != ""]
    chosen = {
        name: table.sort(first, maintain_order=True)
        for name, table in (("effects", run.effects), ("curves", run.curves))
    }
    if not run.decodability.is_empty():
        chosen["decodability"] = run.decodability.sort(pl.col("task") != "ALL", maintain_order=True)
    if not run.probes.is_empty():
        chosen["probes"] = run.probes.sort(pl.col("task") != "ALL", maintain_order=True)
    if not run.guardedness.is_empty():
        first = [pl.col("task") != "ALL", pl.col("control") != ""]
        chosen["guardedness"] = run.guardedness.sort(first, maintain_order=True)
    if not run.screen.is_empty():
        chosen["screen"] = run.screen.sort("rank", maintain_order=True)
    if not run.texts.is_empty():
        chosen["texts"] = run.texts.sort(pl.col("control") != "", maintain_order=True).drop(cs.list())
    if not run.learned.is_empty():
        chosen["learned"] = run.learned.sort(~pl.col("chosen"), maintain_order=True)
    return {name: table.head(MOST_ROWS).fill_nan(None) for name, table in chosen.items()}
