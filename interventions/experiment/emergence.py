"""Checkpoints of one training in tables: CD, accuracy and effect at one layer, and when each has half risen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.experiment.revisions import Checkpoint
from patchboard.measure.decodability import ALL
from patchboard.measure.relation import spearman
from patchboard.measure.replicates import layer_by_cd
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.tasks.base import NULL

OF_STEP = {"step": pl.Int64(), "checkpoint": pl.String(), "task": pl.String()}
"""Of every table; task: a task, or ALL."""
CD_AND_ACCURACY = {
    **OF_STEP,
    "layer": pl.Int32(),  # the best by CD at the last checkpoint
    "n": pl.Int32(),  # prompts
    "cd": pl.Float64(),
    "cd_low": pl.Float64(),  # bootstrap over prompts
    "cd_high": pl.Float64(),
    "accuracy": pl.Float64(),  # exact match on the same prompts; NaN of Null
    "accuracy_low": pl.Float64(),
    "accuracy_high": pl.Float64(),
    "own_layer": pl.Int32(),  # the best by CD of all labels at this checkpoint
    "own_cd": pl.Float64(),
    "chance": pl.Float64(),
}
EFFECTS = {
    **OF_STEP,
    "layer": pl.Int32(),
    "intervention": pl.String(),
    "control": pl.String(),
    "metric": pl.String(),
    "clean": pl.Float64(),
    "patched": pl.Float64(),
    "effect": pl.Float64(),
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "n": pl.Int32(),
}


def cd_and_accuracy(
    decodability: pl.DataFrame, checkpoints: Sequence[Checkpoint], axis: str, layer: int, bootstrap: Bootstrap
) -> pl.DataFrame:
    """CD_AND_ACCURACY of each checkpoint and label.

    decodability: DECODABILITY at one number of shots, with the axis.
    """
    tables = []
    layers, shots = decodability["layer"].unique().to_list(), decodability["shots"][0]
    for each in checkpoints:
        own = decodability.filter(pl.col(axis) == each.name)
        there = layer_by_cd(own, layers, shots)
        own_cd = own.filter(pl.col("layer") == there).select("task", own_cd="cd")
        rows = own.filter(pl.col("layer") == layer).join(own_cd, "task", maintain_order="left")
        rows = rows.with_columns(
            step=pl.lit(each.step), checkpoint=pl.lit(each.name), own_layer=pl.lit(there),
            cd_low="ci_low", cd_high="ci_high",
        )  # fmt: skip
        known = rows.filter(~pl.col("task").is_in([ALL, NULL]))
        low, high = {}, {}
        for task in rows["task"]:
            part = known if task == ALL else known.filter(pl.col("task") == task)
            low[task], high[task] = share_interval(part, bootstrap)
        tables.append(
            rows.with_columns(
                accuracy_low=pl.col("task").replace_strict(low), accuracy_high=pl.col("task").replace_strict(high)
            )
        )
    return pl.concat(tables).select(pl.col(column).cast(kind) for column, kind in CD_AND_ACCURACY.items())


def share_interval(rows: pl.DataFrame, bootstrap: Bootstrap) -> tuple[float, float]:
    """Interval of the accuracy of these tasks together, prompts resampled within each; NaN without a task.

    rows: task, n, accuracy, a row a task. A share of n prompts says which of them are right, but for their order, and
    that is all that a bootstrap needs.
    """
    hits = [
        (row["task"], np.arange(row["n"]) < round(row["accuracy"] * row["n"])) for row in rows.iter_rows(named=True)
    ]
    if not hits:
        return float("nan"), float("nan")
    values = np.concatenate([each for _, each in hits]).astype(float)
    low, high = interval(values[:, None], bootstrap, [task for task, each in hits for _ in each])
    return float(low[0]), float(high[0])


def effects_at(
    effects: pl.DataFrame, curves: pl.DataFrame, checkpoints: Sequence[Checkpoint], axis: str, layer: int, metric: str
) -> pl.DataFrame:
    """EFFECTS at the layer, of each task and of all, the interventions' and their controls'."""
    steps = pl.DataFrame(
        [(each.name, each.step) for each in checkpoints], schema={axis: pl.String(), "step": pl.Int64()}, orient="row"
    )
    # a control may have several vectors a task (random draws), which curves average and effects do not
    by_task = effects.filter(pl.col("control") == "")
    rows = pl.concat([curves.with_columns(task=pl.lit(ALL)), by_task.select(pl.exclude("vector_task"))], how="diagonal")
    rows = rows.filter(pl.col("layer") == layer, pl.col("metric") == metric).join(steps, axis)
    return rows.with_columns(checkpoint=axis).sort("step", maintain_order=True).select(
        pl.col(column).cast(kind) for column, kind in EFFECTS.items()
    )  # fmt: skip


def half_risen(steps: Sequence[int], rows: Sequence[tuple[float, float, float]]) -> int | None:
    """The first step at which a value has come half the way from its first to its last checkpoint.

    rows: (value, low, high) a step. None where it has not risen: the last interval is not above the first.
    """
    (first, _, highest_at_first), (last, lowest_at_last, _) = rows[0], rows[-1]
    if not lowest_at_last > highest_at_first:
        return None
    return next(step for step, (value, _, _) in zip(steps, rows, strict=True) if value >= (first + last) / 2)


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """Spearman's correlation over checkpoints, NaN where one of the two never changes; n: checkpoints."""
    return {"spearman": float(spearman(np.array(x), np.array(y)[None, :])[0]), "n": len(x)}
