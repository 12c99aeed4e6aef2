"""An experiment in one JSON document: where the error ends, when it falls, when tasks can be read, what vectors do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from patchboard.experiments.synthetic.settings import SyntheticSettings
from patchboard.measure.decodability import ALL
from patchboard.measure.effects import effects
from patchboard.measure.outcome_index import Outcomes
from patchboard.measure.relation import spearman
from patchboard.measure.statistics import Bootstrap
from patchboard.measure.summary import without_nan

Tables = Mapping[str, pl.DataFrame]

SUBSPACE = "tasks"
"""What stands in ``vector_task`` of a subspace, which is of no one task."""
OF_ITSELF = (pl.col("vector_task") == pl.col("task")) | pl.col("vector_task").str.starts_with(pl.col("task") + "-")
"""Whether the vector is the sequence's own task's; a difference is named after the task that it leads to."""
TOLD = "ridge"
"""The estimator that does not know of tasks, from which ``mixture``, which does, is told apart."""


def summarise(settings: SyntheticSettings, tables: Tables) -> dict[str, Any]:
    """Ready for JSON: NaN is None.

    layer: the block of the highest CD of all tasks, at the last checkpoint and the largest number of shots.
    Of each task: ``error`` (mean over pairs) at the last checkpoint, the baselines' errors, ``fell`` (first checkpoint
    whose error is below the middle between ridge and mixture), ``readable`` (first whose CD at ``layer`` has its
    interval above the middle between chance and 1), ``spearman`` of error and CD over checkpoints.
    matrix: of each intervention with vectors of tasks, as ``matrix_table`` has it: mean effect of the own task's
    vector, of others', and each.
    """
    layer = best_layer(tables["decodability"])
    tasks = {name: _task(name, layer, tables) for name in settings.data.tasks}
    summary = {
        "version": 1,
        "name": settings.name,
        "steps": settings.steps(),
        "layer": layer,
        "tasks": tasks,
        "matrix": _matrices(tables["matrix"]),
    }
    return without_nan(summary)


def best_layer(decodability: pl.DataFrame) -> int | None:
    """None where CD was not asked for. The earliest among equals."""
    last = most_shots(decodability).filter(pl.col("task") == ALL, pl.col("step") == pl.col("step").max())
    return None if last.is_empty() else last.sort("cd", "layer", descending=[True, False])["layer"][0]


def most_shots(decodability: pl.DataFrame) -> pl.DataFrame:
    return decodability.filter(pl.col("shots") == pl.col("shots").max())


def mean_errors(table: pl.DataFrame, task: str) -> pl.DataFrame:
    """The task's rows of means over pairs."""
    return table.filter(pl.col("task") == task, pl.col("pair").is_null())


def _task(task: str, layer: int | None, tables: Tables) -> dict[str, Any]:
    errors = mean_errors(tables["errors"], task).sort("step")
    baselines = dict(mean_errors(tables["baselines"], task).select("baseline", "error").iter_rows())
    last = errors.row(-1, named=True)
    summary: dict[str, Any] = {
        "error": {name: last[name] for name in ("error", "ci_low", "ci_high", "n")},
        "baselines": baselines,
        "fell": None, "readable": None, "cd": None, "spearman": None,
    }  # fmt: skip
    if "mixture" in baselines:
        middle = (baselines[TOLD] + baselines["mixture"]) / 2
        summary["fell"] = next(iter(errors.filter(pl.col("error") < middle)["step"]), None)
    if layer is not None:
        cd = most_shots(tables["decodability"]).filter(pl.col("task") == task, pl.col("layer") == layer).sort("step")
        summary["cd"] = cd.row(-1, named=True)["cd"]
        summary["readable"] = next(iter(cd.filter(pl.col("ci_low") > (1 + pl.col("chance")) / 2)["step"]), None)
        both = np.stack([errors["error"].to_numpy(), cd["cd"].to_numpy()])
        summary["spearman"] = float(spearman(both[0], both[1:])[0])
    return summary


def matrix_table(outcomes: Outcomes, bootstrap: Bootstrap) -> pl.DataFrame:
    """Effects of the interventions whose vectors are named after tasks, each at one layer, at every checkpoint.

    The layer is that of the largest contrast, at the last checkpoint, between vectors of other tasks and of the
    sequences' own. It is chosen on the even queries, the effects are those of the odd ones.
    """
    named = outcomes.where(
        pl.col("control") == "", pl.col("head") == -1, pl.col("vector_task").is_in(["", SUBSPACE]).not_()
    )
    last = named.where(pl.col("step") == pl.col("step").max(), odd=False)
    contrast = (
        effects(last, bootstrap)
        .group_by("intervention", "layers", maintain_order=True)
        .agg((pl.col("effect").filter(~OF_ITSELF).mean() - pl.col("effect").filter(OF_ITSELF).mean()).alias("contrast"))
        .drop_nulls("contrast")
        .sort("contrast", descending=True)
        .unique("intervention", keep="first", maintain_order=True)
    )
    chosen = pl.any_horizontal(
        pl.lit(False),
        *(
            (pl.col("intervention") == name) & (pl.col("layers") == layers)
            for name, layers in contrast.select("intervention", "layers").iter_rows()
        ),
    )
    return effects(named.where(chosen, odd=True), bootstrap)


def _matrices(table: pl.DataFrame) -> dict[str, Any]:
    """Intervention -> its layers, means, and cells (task, vector_task, effect …) at the last checkpoint."""
    last = table.filter(pl.col("step") == pl.col("step").max())
    kept = ("task", "vector_task", "clean", "effect", "ci_low", "ci_high")
    matrices = {}
    for name in last["intervention"].unique(maintain_order=True):
        own = last.filter(pl.col("intervention") == name)
        means = dict(own.group_by(OF_ITSELF.alias("own")).agg(pl.col("effect").mean()).iter_rows())
        matrices[name] = {
            "layers": own["layers"][0],
            "own": means[True],
            "other": means[False],
            "cells": own.select(kept).to_dicts(),
        }
    return matrices
