"""What pages tell of a pretrained model's run (patch_sweep.py, decodability.py): CD beside effects, by layer, shots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pages.readings import ALL, cd_by_layer, effects_by_layer, json_of

MODELS = {"smollm2": "SmolLM2-135M", "gemma3": "Gemma-3-270M"}
"""How names of runs begin -> the model's name on a page."""


def of_models(runs: dict[str, Any], key: str = "") -> dict[str, Any]:
    """The stored runs ``smollm2_KEY``, ``gemma3_KEY`` (without a key: ``smollm2``, ``gemma3``) by the models' names."""
    names = {f"{name}_{key}" if key else name: title for name, title in MODELS.items()}
    return {title: runs[name] for name, title in names.items() if name in runs}


def first_of(runs: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The first stored run of a model, whatever it is on: ``smollm2``, ``smollm2_pos``, …"""
    return next((values for run, values in runs.items() if run.partition("_")[0] == name), None)


PLACE = ("best_layer", "effect", "ci_low", "ci_high", "clean", "patched", "n")


def values(folder: Path) -> dict[str, Any]:
    """``cd`` by shots (see `cd_by_layer`), ``best``: the layer of the highest CD at each number of shots, ``accuracy``
    by shots and task on the prompts of CD, ``against_cd``: the line through them, ``effects``: intervention -> shots ->
    its best layer (chosen on even queries, measured on odd ones), with controls there and the rank correlation of CD
    and effect over layers; ``curves``: effects by layer."""
    summary, manifest = json_of(folder / "summary.json"), json_of(folder / "manifest.json")
    cd, fit = cd_by_layer(folder), summary["accuracy_against_cd"]
    return {
        "model": {key: manifest["models"][0][key] for key in ("name", "layers", "width", "parameters")},
        "tasks": manifest["tasks"],
        "noise_floor": manifest["noise_floor"],
        "chance": summary["decodability"]["chance"],
        "cd": cd,
        "best": {shots: _best(curves) for shots, curves in cd.items()},
        "accuracy": _accuracies(folder),
        "against_cd": {key: fit[key] for key in ("layer", "slope", "r2", "n")} if fit else None,
        "effects": {name: _of_points(found) for name, found in summary["interventions"].items()},
        "curves": effects_by_layer(folder) if summary["interventions"] else {},
    }


def _best(curves: dict[str, list[float]]) -> dict[str, Any]:
    layer = max(range(len(curves["cd"])), key=lambda layer: curves["cd"][layer])
    return {"layer": layer, **{name: curve[layer] for name, curve in curves.items()}}


def _accuracies(folder: Path) -> dict[int, dict[str, float]]:
    table = pl.read_parquet(folder / "decodability.parquet").filter(pl.col("accuracy").is_not_nan(), layer=0)
    found: dict[int, dict[str, float]] = {}
    for shots, task, accuracy in table.sort("shots", maintain_order=True).select("shots", "task", "accuracy").rows():
        found.setdefault(shots, {})[task] = accuracy
    return {shots: {ALL: own.pop(ALL), **own} for shots, own in found.items()}


def _of_points(found: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {
        point["shots"]: {
            **{key: point[key] for key in PLACE},
            "controls": {
                name: {key: control[key] for key in ("effect", "ci_low", "ci_high")}
                for name, control in point["controls"].items()
                if name != "self"
            },
            "per_task": {task: row["effect"] for task, row in point["per_task"].items()},
            "correlation": point["correlation"],
        }
        for point in found.get("points", [found])
    }
