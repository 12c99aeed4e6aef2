"""The page on CD, accuracy and effect over training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from pages.frame import Run
from pages.readings import ALL, json_of
from patchboard.measure.decodability import label_codes
from patchboard.measure.nearest import voted
from patchboard.tasks.base import NULL

POS = "--tasks={family: pos, source: grammar, include_null: true}"
RUNS = {"bitwise": Run("checkpoints"), "pos": Run("checkpoints", POS)}
FIGURES = {
    "checkpoints.png": ("bitwise", "experiment/figures/training.png"),
    "checkpoints_by_task.png": ("bitwise", "experiment/figures/by-task.png"),
    "checkpoints_layers.png": ("bitwise", "experiment/figures/layers.png"),
    "checkpoints_pos.png": ("pos", "experiment/figures/training.png"),
    "checkpoints_by_task_pos.png": ("pos", "experiment/figures/by-task.png"),
}

Row = dict[str, Any]


def values(name: str, folder: Path) -> Row:
    """What the experiment's summary says, the best layers of the run's own curves, and votes without a model."""
    summary = json_of(folder / "experiment" / "summary.json")
    prompts = pl.read_parquet(folder / "prompts.parquet")
    at_last = [
        pl.col("metric") == summary["metric"],
        pl.col("control") == "",
        pl.col("model.name") == summary["checkpoints"][-1],
    ]
    by_layer = pl.read_parquet(folder / "curves.parquet").filter(at_last)
    by_task = pl.read_parquet(folder / "effects.parquet").filter(at_last)
    halves = summary["half_risen"]
    return {
        **{key: summary[key] for key in ("layer", "chance", "steps", "shots")},
        "over_training": _over_training(summary),
        "half_risen": halves,
        "lags": {what: _lags(halves, what) for what in ("cd", "accuracy")},
        "with_cd": {what: found["spearman"] for what, found in summary["with_cd"].items()},
        "first_by_task": {r["task"]: r["cd"] for r in summary["learned"] if r["step"] == summary["steps"][0]},
        "first_best": _best_of_first(summary),
        "best_by_effect": _best(by_layer),
        "by_task_at_last": {
            task: {"here": part.filter(pl.col("layer") == summary["layer"])["effect"][0], **_best(part)}
            for (task,), part in by_task.group_by("task", maintain_order=True)
        },
        "votes_on_answers": _votes_on_answers(_of_first(prompts, "decodability"), summary["k"]),
        "constant_answers": _constant_answers(_of_first(prompts, "evaluate")),
    }  # fmt: skip


def _over_training(summary: Row) -> list[Row]:
    """Of each step CD, accuracy and the effects: value, ends of the interval, standard deviation over tasks."""
    spread = {row["step"]: row for row in summary["over_tasks"]}
    effects = {(row["step"], row["control"]): row for row in summary["caused"] if row["task"] == ALL}
    return [
        {
            "step": row["step"],
            "cd": row["cd"], "cd_ends": [row["cd_low"], row["cd_high"]], "cd_sd": spread[row["step"]]["cd_sd"],
            "accuracy": row["accuracy"], "accuracy_ends": [row["accuracy_low"], row["accuracy_high"]],
            "accuracy_sd": spread[row["step"]]["accuracy_sd"],
            "effect": own["effect"], "effect_ends": [own["ci_low"], own["ci_high"]],
            "random": effects[row["step"], "random"]["effect"],
        }
        for row in summary["learned"] if row["task"] == ALL
        for own in [effects[row["step"], ""]]
    ]  # fmt: skip


def _lags(halves: dict[str, Row], before: str) -> dict[str, Any]:
    """Steps from half of the rise of CD or accuracy to half of the effect's, over the tasks where both rose."""
    lags = [
        of["added"] - of[before] for task, of in halves.items()
        if task not in (ALL, NULL) and of["added"] is not None and of[before] is not None
    ]  # fmt: skip
    return {"tasks": len(lags), "least": min(lags, default=None), "most": max(lags, default=None)}


def _best_of_first(summary: Row) -> Row:
    """The layer that is best by CD at the first checkpoint."""
    row = next(row for row in summary["learned"] if row["task"] == ALL)
    return {"layer": row["own_layer"], "cd": row["own_cd"]}


def _best(curve: pl.DataFrame) -> Row:
    row = curve.sort("effect", descending=True, maintain_order=True).row(0, named=True)
    return {"layer": row["layer"], "effect": row["effect"]}


def _of_first(prompts: pl.DataFrame, role: str) -> pl.DataFrame:
    """The prompts of a role, which are the same at every checkpoint."""
    return prompts.filter(pl.col("role") == role, pl.col("swept") == pl.col("swept").first())


def _votes_on_answers(prompts: pl.DataFrame, k: int) -> float:
    """CD of no model: neighbours in how often each word is an answer among a prompt's demonstrations."""
    answers = [[line.rpartition(" ")[2] for line in text.split("\n")[:-1]] for text in prompts["text"]]
    place = {word: i for i, word in enumerate(sorted({word for row in answers for word in row}))}
    counts = np.zeros((len(answers), len(place)))
    for row, words in zip(counts, answers, strict=True):
        for word in words:
            row[place[word]] += 1
    codes = torch.from_numpy(label_codes(prompts["task"].to_list()))
    return float((voted(torch.from_numpy(counts), codes, k) == codes).double().mean())


def _constant_answers(prompts: pl.DataFrame) -> dict[str, float]:
    """Of each task the share of queries that its most frequent answer is right in."""
    return {
        task: _largest_share(part["answer"])
        for (task,), part in prompts.group_by("task", maintain_order=True) if task != NULL
    }  # fmt: skip


def _largest_share(answers: Iterable[str]) -> float:
    counts = Counter(answers)
    return max(counts.values()) / counts.total()
