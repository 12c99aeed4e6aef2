"""The first or the last layers finetuned, beside the model as it was and one told the concept."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl

from pages.conditions import comparison
from pages.frame import Run
from pages.readings import cd_of, json_of

POS = ("--model", "experiments/models/checkpoints/step2048", "--study.tasks={family: pos, source: grammar}")

REAL = "experiments/specs/finetune_real.yaml"
GEMMA3 = ("--model", "gemma3-270m", "--adapter.layers=6", "--study.interventions.added.layers=2:18:3")

RUNS = {
    "bitwise": Run("finetune"),
    "pos": Run("finetune", *POS, "--training.epochs=1"),
    "smollm2_pos": Run("finetune", REAL, needs="smollm2-135m"),
    "gemma3_pos": Run("finetune", REAL, *GEMMA3, needs="gemma3-270m"),
    "seed1": Run("finetune", "--training.seed=1"),
    "seed2": Run("finetune", "--training.seed=2"),
}

FIGURES = {
    "finetune_cd.png": ("bitwise", "figures/cd.png"),
    "finetune_accuracy.png": ("bitwise", "figures/accuracy.png"),
    "finetune_cd_smollm2.png": ("smollm2_pos", "figures/cd.png"),
    "finetune_accuracy_smollm2.png": ("smollm2_pos", "figures/accuracy.png"),
}


def values(name: str, folder: Path) -> dict[str, Any]:
    summary = json_of(folder / "summary.json")
    decodability = pl.read_parquet(folder / "decodability.parquet")
    manifest = json_of(folder / "manifest.json")
    by_condition = decodability.partition_by("condition", maintain_order=True, as_dict=True)
    return {
        **comparison(summary, short),
        "departures": summary.get("departures", []),
        "chance": decodability["chance"][0],
        "by_layer": {short(str(name)): cd_of(table) for (name,), table in by_condition.items()},
        "layers": summary["layers"],
        "model_layers": summary["model_layers"],
        "samples": summary["samples"],
        "training": summary["training"],
        "adapter": summary["adapter"],
        "losses": {which: _ends(losses) for which, losses in summary["losses"].items()},
        "parameters": {which: manifest[f"trained_parameters_{which}"] for which in summary["losses"]},
    }


def short(condition: str) -> str:
    """``first`` of ``first 2 layers``; pretrained, last and prompting likewise."""
    return condition.partition(" ")[0]


def _ends(losses: list[float]) -> dict[str, Any]:
    """Mean loss of the first and of the last tenth of the steps, in nats: a single batch's is noise."""
    tenth = max(1, len(losses) // 10)
    return {"steps": len(losses), "begun": fmean(losses[:tenth]), "ended": fmean(losses[-tenth:])}
