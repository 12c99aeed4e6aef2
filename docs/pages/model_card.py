"""The card of the model that comes along: what it is, what it can do, what it cannot tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pages.frame import Run
from pages.readings import ALL, cd_by_layer, clean, effects_by_layer, json_of

PLACE = "interventions/embedded/MODEL_CARD.md"
SHOTS = "--decodability.shots=[0, 1, 2, 4, 8]"

RUNS = {
    "bitwise": Run("patch_sweep", SHOTS),
    "pos": Run("patch_sweep", "--tasks.family=pos", SHOTS),
}

WEIGHTS = Path(__file__).parents[2] / "interventions" / "embedded" / "weights"
SIZES = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
RECIPE = ("steps", "rows", "batch", "stated", "null", "lr", "seed", "seconds")


def values(name: str, folder: Path) -> dict[str, Any]:
    config, recipe = json_of(WEIGHTS / "config.json"), json_of(WEIGHTS / "training.json")
    conversion = effects_by_layer(folder, "conversion")
    return {
        "accuracy": _accuracies(folder),
        "cd": {shots: curve["cd"] for shots, curve in cd_by_layer(folder).items()},
        "clean": clean(folder),
        "patched": _patched(effects_by_layer(folder)[0]),
        "converted": _patched({edit: {"other_task": of["other_task"]} for edit, of in conversion[0].items()}),
        "sizes": {key: config[key] for key in SIZES},
        "megabytes": (WEIGHTS / "model.safetensors").stat().st_size / 1e6,
        "recipe": {key: recipe.get(key) for key in RECIPE},
    }


def _accuracies(folder: Path) -> dict[str, list[float]]:
    """Task -> accuracy by shots, on the prompts of CD."""
    table = pl.read_parquet(folder / "decodability.parquet").filter(pl.col("accuracy").is_not_nan(), layer=0)
    of_tasks = table.sort("shots").group_by(["task"], maintain_order=True)
    found = {str(task): part["accuracy"].to_list() for (task,), part in of_tasks}
    return {task: found[task] for task in sorted(found, key=lambda task: task == ALL)}


def _patched(effects: dict[str, dict[str, dict[str, list[float]]]]) -> dict[str, list[float]]:
    """Edit, as a row names it -> the metric under it by layer."""
    return {
        name if control == "own" else f"{name}, {control}": curve["patched"]
        for name, controls in effects.items()
        for control, curve in controls.items()
        if control != "self"
    }
