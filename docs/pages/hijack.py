"""Margins by count, length and distance, and what the weights return as memories, of each trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from pages.frame import Run
from pages.readings import json_of

RUNS = {
    "kinds": Run("hijack", "--model.positions=[absolute, rotary, relative]", "--training.seeds=[0, 1]"),
    "repeats": Run("hijack", "--training.loss=repeats", "--training.steps=300"),
}

FIGURES = {
    f"hijack_{figure}.png": ("kinds", f"figures/{figure}.png") for figure in ("count", "distance", "length", "places")
}

SHOWN = 8
"""Pairs shown where prompts are looked at one by one: the most of the spec."""


def values(name: str, folder: Path) -> dict[str, Any]:
    summary = json_of(folder / "summary.json")
    common = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))["language"]["common"]
    outcomes = pl.read_parquet(folder / "outcomes.parquet")
    models = {}
    for model in summary["models"]:
        key = f"{model['positions']}_s{model['seed']}"
        own = pl.col("positions") == model["positions"], pl.col("seed") == model["seed"]
        models[key] = _model(model) | prompt_by_prompt(outcomes.filter(*own), common)
    return {"trained_length": summary["trained_length"], "longest": summary["longest"], "models": models}


def _model(model: dict[str, Any]) -> dict[str, Any]:
    margins = model["margins"]
    memories = {m["memory"] + ("" if m["trained"] else "_beyond"): m["right"] for m in model["memories"]}
    return {
        "count": _by(margins, "count", "count"),
        "distance": _by(margins, "distance", "distance"),
        "near": _by(margins, "near", "length"),
        "by_strength": {
            count: {r["strength"]: r["margin"] for r in model["by_strength"] if r["count"] == count} for count in (0, 1)
        },
        "memories": memories,
        "previous_up_to": model["previous_up_to"],
        "attention": {row["place"]: row["value"] for row in model["places"] if row["quantity"] == "previous"},
    }


def _by(margins: list[dict[str, Any]], kind: str, key: str) -> dict[int, dict[str, float]]:
    columns = ("margin", "ci_low", "ci_high", "ideal", "copied", "hijacked")
    return {row[key]: {column: row[column] for column in columns} for row in margins if row["kind"] == kind}


def prompt_by_prompt(outcomes: pl.DataFrame, common: int) -> dict[str, Any]:
    """One model's answers at `SHOWN` pairs held against what the observer says of the same prompt.

    like_one, like_all: Spearman correlation of the margin with the observer's after one pair, after all. doubtful: the
    prompts where the observer's margin after one pair is below 0; lost_doubtful, lost_others: the share of these, and
    of the others, answered with c. lost_common: the share of lost prompts whose b is among the common tokens.
    """
    shown = pl.col("kind") == "count", pl.col("count") == SHOWN
    one = outcomes.filter(pl.col("kind") == "count", pl.col("count") == 1).select("prompt", once="ideal")
    rows = outcomes.filter(*shown).join(one, on="prompt", validate="1:1")
    lost = rows.with_columns(lost=pl.col("answer") == pl.col("usual"))
    doubtful = lost.filter(pl.col("once") < 0)
    return {
        "like_one": rows.select(pl.corr("margin", "once", method="spearman")).item(),
        "like_all": rows.select(pl.corr("margin", "ideal", method="spearman")).item(),
        "prompts": rows.height,
        "doubtful": doubtful.height,
        "lost_doubtful": doubtful["lost"].mean(),
        "lost_others": lost.filter(pl.col("once") >= 0)["lost"].mean(),
        "lost_common": lost.filter(pl.col("lost")).select((pl.col("copied") < common).mean()).item(),
    }
