"""The page on CD, accuracy and effect against the size of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pages.checkpoints import POS
from pages.frame import Run
from pages.readings import json_of
from patchboard.experiments.scaling.findings import short

RUNS = {"bitwise": Run("scaling"), "pos": Run("scaling", POS)}
FIGURES = {"scaling_sizes.png": ("bitwise", "experiment/figures/sizes.png")}


def values(name: str, folder: Path) -> dict[str, Any]:
    """Of each model its sizes and, by measure ("added random" is the control's), value, interval and layer."""
    summary = json_of(folder / "experiment" / "summary.json")
    models: dict[str, dict[str, Any]] = {}
    for row in summary["sized"]:
        size = {key: row[key] for key in ("parameters", "non_embedding", "layers")}
        of = models.setdefault(short(row["model"], row["revision"]), size)
        measure = f"{row['measure']} {row['control']}".strip().replace(" ", "_")
        of[measure] = {"value": row["value"], "ends": [row["low"], row["high"]], "layer": row["layer"]}
    exponents = {count: found and {key: found[key] for key in ("exponent", "stderr")}
                 for count, found in summary["exponents"].items()}  # fmt: skip
    with_size = {of["measure"]: of["spearman"] for of in summary["with_size"] if of["count"] == "parameters"}
    return {"models": models, "exponents": exponents, "with_size": with_size}
