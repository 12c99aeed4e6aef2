"""The concept stated before the prompt or not: CD, accuracy, and what the task's vector adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pages.conditions import comparison
from pages.frame import Run
from pages.readings import cd_of, json_of

MODELS = "experiments/models/checkpoints"

REAL = "experiments/specs/prompting_real.yaml"
GEMMA3 = ("--interventions.added.layers=2:18:3",)  # of 18 layers
BITWISE = (
    "--tasks={family: bitwise, bits: 5, include_null: true}",
    '--prompts.template.prefix={sweep: ["", "{task}\\n"]}',
    "--prompts.queries=25",
    "--decodability.prompts=25",
)

RUNS = {
    "bitwise": Run("prompting"),
    "early": Run("prompting", "--model", f"{MODELS}/step1024"),
    "pos": Run("prompting", "--model", f"{MODELS}/step2048", "--tasks={family: pos, source: grammar}"),
    "smollm2_pos": Run("prompting", REAL, needs="smollm2-135m"),
    "smollm2_bitwise": Run("prompting", REAL, *BITWISE, needs="smollm2-135m"),
    "gemma3_pos": Run("prompting", REAL, "--model", "gemma3-270m", *GEMMA3, needs="gemma3-270m"),
}

FIGURES = {
    "prompting_cd.png": ("bitwise", "experiment/figures/cd.png"),
    "prompting_accuracy.png": ("bitwise", "experiment/figures/accuracy.png"),
    "prompting_cd_smollm2.png": ("smollm2_pos", "experiment/figures/cd.png"),
    "prompting_accuracy_smollm2.png": ("smollm2_pos", "experiment/figures/accuracy.png"),
}

PREFIX = "prompts.template.prefix"


def values(name: str, folder: Path) -> dict[str, Any]:
    summary = json_of(folder / "experiment" / "summary.json")
    decodability = pl.read_parquet(folder / "decodability.parquet")
    states = pl.col(PREFIX).str.contains("{task}", literal=True)
    return {
        **comparison(summary, short),
        "departures": summary.get("departures", []),
        "chance": decodability["chance"][0],
        "by_layer": {
            "unstated": cd_of(decodability.filter(~states)),
            "stated": cd_of(decodability.filter(states)),
        },
    }


def short(condition: str) -> str:
    """``unstated`` or ``stated``: these pages' runs have one prefix that states the concept."""
    return condition.partition(":")[0]
