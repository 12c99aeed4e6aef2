"""What the explorer shows of a run, from the folder's tables: effects with intervals, CD, and single queries
(``queries``)."""

from __future__ import annotations

from typing import Any

import polars as pl

from patchboard.metrics import METRICS
from patchboard.report.explorer.packed import Packed, Piece
from patchboard.report.explorer.queries import KEY, query_data
from patchboard.report.run_files import Run, setting_label
from patchboard.report.style import in_order, line_of
from patchboard.store.schema import DECODABILITY, FLOORS

_WORDS = ("task", "intervention", "control", "op", "site", "layers", "position", "metric", "setting")
_NUMBERS = ("layer", "head", "strength", "shots", "clean", "patched", "effect", "ci_low", "ci_high", "n")
_DASHES = {"-": [], "--": [8, 4], "-.": [8, 3, 2, 3], ":": [2, 3]}


def explorer_data(run: Run, with_queries: bool = True) -> list[Piece]:
    """What a page holds of a run: first all that is drawn, then a piece for each of its ``queries.parts``, the
    interventions with single queries, which a page opens when it needs it. with_queries: whether there are any."""
    packed = Packed()
    cells = _cells(run)
    controls = in_order(cells["control"].unique())
    metrics = cells["metric"].unique(maintain_order=True)  # a page made again is the same page
    units = {name: METRICS.get(name, "metrics").unit if name in METRICS else "" for name in metrics}
    queries, parts = query_data(run, cells, packed) if with_queries else (None, [])
    tree = {
        "name": run.folder.name,
        "metric": run.metric,
        "units": units,
        "interventions": [name for name in run.spec["interventions"] if name in set(cells["intervention"])],
        "tasks": run.effects["task"].unique(maintain_order=True).to_list(),
        "lines": {name: {"colour": line_of(name).colour, "dash": _DASHES[line_of(name).dashes]} for name in controls},
        "cells": {
            **{name: packed.words(cells[name]) for name in _WORDS},
            **{name: packed.numbers(cells[name].cast(pl.Float64)) for name in _NUMBERS},
        },
        "cd": _cd(run, packed),
        "queries": queries,
    }
    return [(packed, tree), *parts]


def _cells(run: Run) -> pl.DataFrame:
    """Pooled effects (task ""), then those of each task, with the setting of the swept fields in words."""
    by_task = run.effects.group_by("task", *KEY, *run.swept, "metric", maintain_order=True)
    # draws of a random vector: one row each by task, one in all pooled
    of_tasks = by_task.agg(pl.col("clean", "patched", "effect", "ci_low", "ci_high", "n").first())
    both = pl.concat([run.curves.with_columns(task=pl.lit("")), of_tasks], how="diagonal_relaxed")
    # positions are an axis of a map
    fields = [name for name in run.swept if name != "prompts.shots" and not name.endswith(".position")]
    labels = [
        setting_label({"shots": row["shots"], **{name: row[name] for name in fields if row[name] is not None}})
        for row in both.select("shots", *fields).iter_rows(named=True)
    ]
    return both.with_columns(pl.Series("setting", labels, dtype=pl.String))


def _cd(run: Run, packed: Packed) -> dict[str, Any] | None:
    """Of the first setting of what is swept: CD by task, layer and number of shots."""
    table = run.decodability
    if table.is_empty():
        return None
    swept = [name for name in table.columns if name not in {**DECODABILITY, **FLOORS}]
    if swept:
        first = table.row(0, named=True)
        table = table.filter(*(pl.col(name).eq_missing(pl.lit(first[name])) for name in swept))
    numbers = ("layer", "shots", "cd", "ci_low", "ci_high", "chance")
    return {
        "task": packed.words(table["task"]),
        **{name: packed.numbers(table[name].cast(pl.Float64)) for name in numbers},
        "first_of": setting_label({name: table[name][0] for name in swept}),
    }
