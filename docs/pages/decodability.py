"""CD by layer, shots and task, of pairs, and the choice of a layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pages import pretrained
from pages.frame import Run
from pages.readings import cd_by_layer, json_of, rows_by

REAL = (
    "--tasks.bits=5", "--decodability.prompts=50", "--decodability.shots=[0, 1, 4]", "--decodability.twin=true",
)  # fmt: skip

RUNS = {
    "bitwise": Run("decodability"),
    "pos": Run("decodability", "--tasks.family=pos"),
    "umap": Run("decodability", "--projection=umap", needs="umap"),
    **{
        f"{key}_bitwise": Run("decodability", *REAL, f"--model={name}", needs=name)
        for key, name in (("smollm2", "smollm2-135m"), ("gemma3", "gemma3-270m"))
    },
}

FIGURES = {
    "decodability_by_task.png": ("bitwise", "experiment/figures/by-task.png"),
    "decodability_pairs.png": ("bitwise", "experiment/figures/pairs.png"),
    "decodability_projection.png": ("bitwise", "experiment/figures/projection.png"),
    "decodability_umap.png": ("umap", "experiment-projection-umap/figures/projection.png"),
}

CD = ("cd", "ci_low", "ci_high")


def values(name: str, folder: Path) -> dict[str, Any]:
    if name.partition("_")[0] in pretrained.MODELS:
        return pretrained.values(folder)
    own = folder / ("experiment-projection-umap" if name == "umap" else "experiment")
    states = pl.read_parquet(own / "projection.parquet")
    if name == "umap":
        return {"picture": picture(states)}
    summary = json_of(own / "summary.json")
    fit = json_of(folder / "summary.json")["accuracy_against_cd"]
    one_a_panel = states.unique("shots", keep="first", maintain_order=True)
    by_layer = cd_by_layer(folder)
    return {
        **{key: summary[key] for key in ("layers", "chance", "shots", "choice")},
        "accuracy_against_cd": {key: fit[key] for key in ("layer", "slope", "r2", "n")},
        "by_layer": by_layer,
        "chosen": {shots: curve["cd"][summary["choice"]["layer"]] for shots, curve in by_layer.items()},
        "by_shots": rows_by(summary["by_shots"], "shots", *CD, "n", "layer", "accuracy"),
        "by_task": rows_by(summary["by_task"], "task", *CD, "accuracy"),
        "pairs": {f"{row['task']} with {row['other']}": {key: row[key] for key in CD} for row in summary["pairs"]},
        "picture": picture(states),
        "variance": {row["shots"]: row["x_share"] + row["y_share"] for row in one_a_panel.to_dicts()},
    }


def picture(states: pl.DataFrame, k: int = 10) -> dict[int, float]:
    """Shots -> share of the points that the k nearest ones in the picture vote for rightly, by CD's own rule."""
    from torch import from_numpy

    from patchboard.measure.decodability import label_codes  # torch takes seconds to load
    from patchboard.measure.nearest import voted

    right = {}
    for (shots,), part in states.group_by(["shots"], maintain_order=True):
        codes = from_numpy(label_codes(part["task"].to_list()))
        right[shots] = float((voted(from_numpy(part.select("x", "y").to_numpy()), codes, k) == codes).double().mean())
    return right
