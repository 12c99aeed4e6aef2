"""What the explorer shows of a run, from the folder's tables: effects with intervals, CD, and single queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from patchboard.metrics import METRICS
from patchboard.plan.shown import every_nth
from patchboard.report.explorer.packed import Packed
from patchboard.report.explorer.prompts import marked_characters, prompts_at
from patchboard.report.explorer.tokens import Tokens
from patchboard.report.run_files import Run, read_json, read_table, scan_table, setting_label
from patchboard.report.style import in_order, line_of
from patchboard.store.schema import CELL, DECODABILITY, FLOORS

_KEY = [name for name in CELL if name != "vector_task"]
_WORDS = ("task", "intervention", "control", "op", "site", "layers", "position", "metric", "setting")
_NUMBERS = ("layer", "head", "strength", "shots", "clean", "patched", "effect", "ci_low", "ci_high", "n")
_DASHES = {"-": [], "--": [8, 4], "-.": [8, 3, 2, 3], ":": [2, 3]}


def explorer_data(run: Run, with_queries: bool = True) -> tuple[Packed, dict[str, Any]]:
    """The block of numbers and the JSON that refers to it. with_queries: of single ones too, which are most of it."""
    packed = Packed()
    cells = _cells(run)
    controls = in_order(cells["control"].unique())
    units = {name: METRICS.get(name, "metrics").unit if name in METRICS else "" for name in cells["metric"].unique()}
    return packed, {
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
        "queries": _queries(run, cells, packed) if with_queries else None,
    }


def _cells(run: Run) -> pl.DataFrame:
    """Pooled effects (task ""), then those of each task, with the setting of the swept fields in words."""
    by_task = run.effects.group_by("task", *_KEY, *run.swept, "metric", maintain_order=True)
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


def _queries(run: Run, cells: pl.DataFrame, packed: Packed) -> dict[str, Any]:
    """Each task's own cells query by query: a ``set`` of prompts for each task and setting, and the values of each cell
    of ``cells`` that has some: ``at``, the cells' rows, ``of``, their sets, ``patched`` [cell, query of its set], and
    ``before``, where in ``clean`` those of the unedited run begin, which many cells share. ``tokens``: as
    ``Tokens`` has them, where the run kept some."""
    own = scan_table(run.folder, "outcomes.parquet").filter(pl.col("control") == "")
    step = _every(run, own)
    outcomes = own.filter(pl.col("query") % step == 0).collect()
    prompts = read_table(run.folder, "prompts.parquet")
    keys = ["task", *_KEY, *run.swept, "metric"]
    numbered = cells.with_row_index("row").filter(pl.col("task") != "", pl.col("control") == "")
    kept = outcomes.join(numbered.select(*keys, "row"), on=keys, how="inner", nulls_equal=True).sort("row", "query")
    swept = [name for name in run.swept if not name.startswith("interventions.")]
    of_prompt, of_cell = ("task", "shots", "seed", *swept), keys[:-1]
    tokens = Tokens(run.top_tokens, of_prompt, of_cell)
    entries: dict[str, list[int]] = {"clean": [], "patched": []}
    sets: list[dict[str, Any]] = []
    known: dict[tuple[Any, ...], int] = {}
    at: list[int] = []
    of: list[int] = []
    patched, clean = [], []
    before: list[int] = []
    begins: dict[bytes, int] = {}
    for (row,), part in kept.group_by("row", maintain_order=True):
        cell = part.row(0, named=True)
        key = tuple(cell[name] for name in of_prompt)
        position = cell["position"]
        if key not in known:
            known[key] = len(sets)
            sets.append(_set(prompts, cell, swept, part["query"].to_list()))
            entries["clean"].append(tokens.entry("clean", key, sets[-1]["query"]))
        chosen = sets[known[key]]
        if position not in chosen["marks"]:
            chosen["marks"][position] = [marked_characters(position, prompt) for prompt in chosen["rows"]]
        at.append(int(row))  # pyright: ignore[reportArgumentType]  # a number, by its column
        of.append(known[key])
        unedited = part["clean"].to_numpy().astype(np.float32)
        if unedited.tobytes() not in begins:
            begins[unedited.tobytes()] = sum(map(len, clean))
            clean.append(unedited)
        before.append(begins[unedited.tobytes()])
        patched.append(part["patched"].to_numpy())
        entries["patched"].append(tokens.entry("patched", tuple(cell[name] for name in of_cell), chosen["query"]))
    for each in sets if tokens.count else ():
        each["first"] = [tokens.place(row["answer_ids"][0]) for row in each["rows"]]
    told = [{name: value for name, value in each.items() if name != "rows"} for each in sets]
    return {
        "step": step,
        "sets": told,
        "at": packed.numbers(at),
        "of": packed.numbers(of),
        "before": packed.numbers(before),
        "clean": packed.numbers(np.concatenate(clean) if clean else []),
        "patched": packed.numbers(np.concatenate(patched) if patched else []),
        "tokens": tokens.told(packed, **entries) if tokens.count else None,
    }


def _every(run: Run, own: pl.LazyFrame) -> int:
    """Of how many queries one is shown: those of which tokens are kept, where any are."""
    if len(run.top_tokens):
        return read_json(run.folder, "plan.json")["shown_every"]
    return every_nth(own.select(pl.len()).collect().item())


def _set(prompts: pl.DataFrame, cell: Mapping[str, Any], swept: list[str], queries: list[int]) -> dict[str, Any]:
    fields = {"role": "evaluate", "task": cell["task"], "shots": cell["shots"]}
    rows = prompts_at(prompts, fields, {name: cell[name] for name in swept})
    by_query = {row["query"]: row for row in rows.iter_rows(named=True)}
    chosen = [by_query[query] for query in queries]
    return {
        "query": queries,
        "text": [row["text"] for row in chosen],
        "answer": [row["answer"] for row in chosen],
        "marks": {},
        "of": len(rows),
        "rows": chosen,
    }
