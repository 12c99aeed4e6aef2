"""Tasks over the same English verbs, on pretrained models: the shipped pair lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages import pretrained
from pages.frame import Run

SPEC = "experiments/specs/pairs_real.yaml"

RUNS = {
    "smollm2": Run("patch_sweep", SPEC, needs="smollm2-135m"),
    "gemma3": Run("patch_sweep", SPEC, "--model=gemma3-270m", needs="gemma3-270m"),
}

FIGURES = {
    "pairs_smollm2.png": ("smollm2", "figures/effect-accuracy.png"),
    "pairs_gemma3.png": ("gemma3", "figures/effect-accuracy.png"),
}


def values(name: str, folder: Path) -> dict[str, Any]:
    return pretrained.values(folder)
