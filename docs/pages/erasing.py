"""Erasing the subspace in which tasks differ: in which blocks, at which tokens, of which rank. And the default run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages.frame import Run
from pages.readings import cd_by_layer, clean, effects_by_layer, json_of

SPEC = "experiments/specs/erasing.yaml"

RUNS = {
    "seed0": Run("patch_sweep", SPEC),
    "seed1": Run("patch_sweep", SPEC, "--prompts.seed=1"),
    "seed2": Run("patch_sweep", SPEC, "--prompts.seed=2"),
    "default": Run("patch_sweep"),
    "default_pos": Run("patch_sweep", "--tasks.family=pos"),
}

FIGURES = {
    "patch_sweep.png": ("default", "figures/effect-accuracy.png"),
    "patch_sweep_pos.png": ("default_pos", "figures/effect-accuracy.png"),
}


def values(name: str, folder: Path) -> dict[str, Any]:
    effects = effects_by_layer(folder)
    if name.startswith("default"):
        effects = {shots: {"erased": of_shots["erased"]} for shots, of_shots in effects.items()}
    random = {
        shots: [value for curves in own.values() for value in curves["random_subspace"]["effect"]]
        for shots, own in effects.items()
    }
    return {
        "clean": clean(folder),
        "effects": effects,
        "random": {shots: [min(found), max(found)] for shots, found in random.items()},
        "cd": {shots: curve["cd"] for shots, curve in cd_by_layer(folder).items()},
        "token_layers": sum(model["token_layers"]["computed"] for model in json_of(folder / "manifest.json")["models"]),
    }
