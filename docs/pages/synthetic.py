"""The page on sparse linear regression, as a model is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pages.frame import Run
from pages.readings import ALL, json_of

RUNS = {"seed0": Run("synthetic")} | {f"seed{seed}": Run("synthetic", f"--training.seed={seed}") for seed in (1, 2)}
FIGURES = {
    f"synthetic_{name}.png": ("seed0", f"figures/{name}.png")
    for name in ("emergence", "curves", "heads-without_head", "matrix-steered_pairs")
}

EARLY = 1000, 4000
"""Steps of the stretch in which nothing separates."""
LOSS_AT = 4000, 6000, 8000, 14000
PASSED = 0.75
"""Midway between CD's chance and 1."""
EVERY = 5
"""Of the checkpoints every fifth is tabulated, and the last."""

Row = dict[str, Any]


def values(name: str, folder: Path) -> Row:
    """What the summary says, and the course of errors, CD, steering and heads from the tables."""
    summary = json_of(folder / "summary.json")
    tables = {file.stem: pl.read_parquet(file) for file in folder.glob("*.parquet")}
    effects = tables["effects"].filter(pl.col("step") == pl.col("step").max())
    cd = _cd(tables["decodability"])
    course = [{"step": step, **_errors(tables["errors"], step), "cd": cd[step]} for step in summary["steps"]]
    early = [row for row in course if EARLY[0] <= row["step"] <= EARLY[1]]
    steered = summary["matrix"]["steered_pairs"]
    return {
        "layer": summary["layer"],
        "tasks": summary["tasks"],
        "course": course[:: -EVERY][::-1],
        "early": {
            "cd": _ends(row["cd"][-1] for row in early),
            "first": early[0], "last": early[-1],
            "steering": _largest(_steering(tables["matrix"]).filter(pl.col("step").is_between(*EARLY))),
        },
        "jump": _jump(course),
        "passed": next((row["step"] for row in course if row["cd"][-1] >= PASSED), None),
        "cd": course[-1]["cd"],
        "matrix": summary["matrix"],
        "steered_layer": steered["layers"],
        "random": _ends(_at(effects, "steered_pairs", "random", steered["layers"])["effect"]),
        "erased": {control: _by_task(_at(effects, "erased_pairs", control, steered["layers"]))
                   for control in ("", "random_subspace")},
        "heads": _heads(effects),
        "self": _largest(effects.filter(pl.col("control") == "self")),
        "loss": {step: _loss(tables["training"], step) for step in LOSS_AT},
    }  # fmt: skip


def _cd(table: pl.DataFrame) -> dict[int, list[float]]:
    """Step -> CD of both tasks at the most shots, by layer."""
    most = table.filter(pl.col("shots") == pl.col("shots").max(), pl.col("task") == ALL).sort("step", "layer")
    return {step: part["cd"].to_list() for (step,), part in most.group_by("step", maintain_order=True)}


def _errors(table: pl.DataFrame, step: int) -> dict[str, float]:
    """Task -> its squared error, mean over pairs."""
    return dict(table.filter(pl.col("step") == step, pl.col("pair").is_null()).select("task", "error").iter_rows())


def _jump(course: list[Row]) -> Row:
    """The two neighbouring checkpoints between which CD of the last layer grows most."""
    before, after = max(zip(course, course[1:], strict=False), key=lambda pair: pair[1]["cd"][-1] - pair[0]["cd"][-1])
    return {"steps": [before["step"], after["step"]], "cd": [before["cd"][-1], after["cd"][-1]]}


def _steering(matrix: pl.DataFrame) -> pl.DataFrame:
    return matrix.filter(pl.col("intervention") == "steered_pairs")


def _at(effects: pl.DataFrame, intervention: str, control: str, layers: str) -> pl.DataFrame:
    return effects.filter(
        pl.col("intervention") == intervention, pl.col("control") == control, pl.col("layers") == layers
    )


def _by_task(effects: pl.DataFrame) -> dict[str, Row]:
    return {row["task"]: _effect(row) for row in effects.iter_rows(named=True)}


def _heads(effects: pl.DataFrame) -> dict[str, dict[str, Row]]:
    """ "layer.head" -> task -> change of the error without it."""
    own = effects.filter(pl.col("intervention") == "without_head", pl.col("control") == "").sort("layer", "head")
    return {
        f"{layer}.{head}": _by_task(part) for (layer, head), part in own.group_by("layer", "head", maintain_order=True)
    }


def _effect(row: Row) -> Row:
    return {"effect": row["effect"], "ends": [row["ci_low"], row["ci_high"]]}


def _loss(training: pl.DataFrame, step: int) -> float:
    """Of the mean over the steps that end there, as the run tabulates it."""
    return training.filter(pl.col("step") == step)["loss"][0]


def _ends(numbers: Any) -> list[float]:
    known = list(numbers)
    return [min(known), max(known)]


def _largest(effects: pl.DataFrame) -> float:
    return effects["effect"].abs().max()  # pyright: ignore[reportReturnType]
