"""Positive and negative interventions with replicates, and every task's mean on every task."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

from pages import pretrained
from pages.frame import Run
from pages.readings import json_of

ADDED = ("--interventions.positive.op=add", "--interventions.negative.op=add")
POS = "--tasks.family=pos"

TREEBANK = "data/en_ewt.conllu"
"""As on the page pos_text."""

REAL = (
    POS, "--tasks.source=treebank", f"--tasks.treebank={TREEBANK}", "--prompts.queries=14",
    "--prompts.seed={sweep: [0, 1, 2]}", "--decodability.prompts=40",
    *(f"--interventions.{name}.vector.{key}" for name in ("positive", "negative") for key in ("shots=4", "prompts=40")),
    "--interventions.positive.vector.only=all",  # of 40 prompts some tasks have none that is answered right
)  # fmt: skip
SMOLLM2 = ("--model=smollm2-135m", "--layers=8,12,16,18,20,22,24,28")

RUNS = {
    "bitwise": Run("intervention_bars"),
    "pos": Run("intervention_bars", POS),
    "added_bitwise": Run("intervention_bars", *ADDED),
    "added_pos": Run("intervention_bars", POS, *ADDED),
    "smollm2_pos": Run("intervention_bars", *REAL, *SMOLLM2, needs=("smollm2-135m", TREEBANK)),
}

FIGURES = {
    "interventions_bars.png": ("bitwise", "experiment/figures/bars.png"),
    "interventions_bars_pos.png": ("pos", "experiment/figures/bars.png"),
    "interventions_matrix.png": ("bitwise", "experiment/figures/matrix-effect.png"),
    "interventions_matrix_pos.png": ("pos", "experiment/figures/matrix-effect.png"),
    "interventions_matrix_added.png": ("added_bitwise", "experiment/figures/matrix-effect.png"),
    "interventions_matrix_added_pos.png": ("added_pos", "experiment/figures/matrix-effect.png"),
}

SPREAD = ("mean", "sd", "ci_low", "ci_high")


def values(name: str, folder: Path) -> dict[str, Any]:
    """``cd`` and ``effect``: at the layer that each of them chooses."""
    if not (folder / "experiment").is_dir():  # a plain sweep: a pretrained model on pairs
        return pretrained.values(folder)
    summary = json_of(folder / "experiment" / "summary.json")
    return {by: {"layer": layer, **_at_layer(summary, by)} for by, layer in summary["layers"].items()}


def _at_layer(summary: dict[str, Any], by: str) -> dict[str, Any]:
    """Shots -> ``mean`` (condition -> accuracy over tasks), ``task`` (condition -> accuracy), ``own`` and ``others``
    (effect of a task's mean on itself and on others), ``converted``, and ``source``: the same of each task's mean."""
    at_shots = {}
    for shots in sorted({row["shots"] for row in summary["bars"]}):
        bars = [row for row in summary["bars"] if row["chosen_by"] == by and row["shots"] == shots]
        cells = [row for row in summary["matrix"] if row["chosen_by"] == by and row["shots"] == shots]
        tasks: dict[str, Any] = {}
        for row in bars:
            tasks.setdefault(row["task"], {})[row["condition"]] = {key: row[key] for key in SPREAD}
        conditions = dict.fromkeys(row["condition"] for row in bars)
        at_shots[shots] = {
            "mean": {c: fmean(row["mean"] for row in bars if row["condition"] == c) for c in conditions},
            "task": tasks,
            **_effects(cells),
            "source": {task: _effects([row for row in cells if row["source"] == task]) for task in tasks},
        }
    return at_shots


def _effects(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over cells, and the lowest and highest conversion among them (None where no cell has one)."""
    accuracy = [row for row in cells if row["measure"] == "accuracy"]
    converted = [row["mean"] for row in cells if row["measure"] == "conversion"]
    return {
        "own": _mean([row["mean"] for row in accuracy if row["source"] == row["target"]]),
        "others": _mean([row["mean"] for row in accuracy if row["source"] != row["target"]]),
        "converted": _mean(converted),
        "least": min(converted, default=None),
        "most": max(converted, default=None),
    }


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
