"""The heads of the largest indirect effect, and what vectors made of them install at 0 shots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pages.frame import Run
from pages.readings import ALL, json_of

UNRANKED_SHOTS = ("--prompts.shots=0", "--prompts.labels=own")

REAL = ("experiments/specs/heads_real.yaml", "--top", "1,4,16")
GEMMA3 = ("--model", "gemma3-270m")
REAL_POS = ("--tasks={family: pos, include_null: false}", "--prompts.queries=14", *UNRANKED_SHOTS)

RUNS = {
    "bitwise": Run("heads"),
    "bitwise_own": Run("heads", *UNRANKED_SHOTS),
    "pos": Run("heads", "--tasks.family=pos", *UNRANKED_SHOTS),
    "pos_shuffled": Run("heads", "--tasks.family=pos"),
    "smollm2_verbs": Run("heads", *REAL, needs="smollm2-135m"),
    "smollm2_pos": Run("heads", *REAL, *REAL_POS, needs="smollm2-135m"),
    "gemma3_verbs": Run("heads", *REAL, *GEMMA3, needs="gemma3-270m"),
    "gemma3_pos": Run("heads", *REAL, *GEMMA3, *REAL_POS, needs="gemma3-270m"),
}

FIGURES = {
    "heads_aie.png": ("bitwise", "experiment/figures/aie-probability.png"),
    "heads_vectors.png": ("bitwise", "experiment/figures/vectors.png"),
    "heads_aie_pos.png": ("pos", "experiment/figures/aie-probability.png"),
    "heads_vectors_pos.png": ("pos", "experiment/figures/vectors.png"),
    "heads_aie_smollm2.png": ("smollm2_verbs", "experiment/figures/aie-probability.png"),
    "heads_logprobs_smollm2.png": ("smollm2_verbs", "experiment/figures/logprobs.png"),
    "heads_aie_gemma3.png": ("gemma3_verbs", "experiment/figures/aie-probability.png"),
}


def values(name: str, folder: Path) -> dict[str, Any]:
    summary = json_of(folder / "experiment" / "summary.json")
    metric = summary["metric"]
    ranked = [_head(row, summary["heads"]) for row in summary["heads"] if row["metric"] == metric]
    second = pl.scan_parquet(folder / "experiment" / "experiment" / "outcomes.parquet")
    most = max(summary["top"])
    return {
        **{key: summary[key] for key in ("metric", "shots", "top", "patched", "above_zero", "random_above_zero")},
        "clean_accuracy": _row(summary["heads"], "accuracy", 1)["clean"],
        "clean": _row(summary["heads"], metric, 1)["clean"],
        "heads": ranked,
        "departures": summary.get("departures", []),
        "vectors": {_label(row): _columns(row, "accuracy") for row in summary["vectors"] if row["task"] == ALL},
        "logprobs": {_label(row): _columns(row, "logprob") for row in summary["logprobs"] if row["task"] == ALL},
        "tasks": {
            task: {_label(row): row["accuracy"] for row in summary["vectors"] if row["task"] == task}
            for task in dict.fromkeys(row["task"] for row in summary["vectors"] if row["task"] != ALL)
        },
        "by_layer": {
            "top": _by_layer(second, f"top-{most}"),
            "mean": _by_layer(second, "mean-added"),
            "patched": _by_layer(second, "mean-patched"),
        },
    }


def _head(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A head's AIE on odd queries, by the metric that ranks and on accuracy."""
    columns = ("effect", "ci_low", "ci_high", "random", "n")
    accuracy = _row(rows, "accuracy", row["rank"])
    return {
        "head": f"{row['layer']}.{row['head']}",
        "chosen": row["chosen"],
        **{key: row[key] for key in columns},
        "accuracy": {key: accuracy[key] for key in columns},
    }


def _row(rows: list[dict[str, Any]], metric: str, rank: int) -> dict[str, Any]:
    return next(row for row in rows if (row["metric"], row["rank"]) == (metric, rank))


def _label(row: dict[str, Any]) -> str:
    """``top heads 4``, or the condition alone where no number of heads is meant."""
    return row["condition"] if row["heads"] is None else f"{row['condition']} {row['heads']}"


def _columns(row: dict[str, Any], metric: str) -> dict[str, Any]:
    keys = (metric, "ci_low", "ci_high", "effect", "effect_low", "effect_high", "layers", "n")
    return {key: row[key] for key in keys}


def _by_layer(outcomes: pl.LazyFrame, intervention: str) -> list[float]:
    """Accuracy at 0 shots with the vector at each edited layer, all queries."""
    rows = outcomes.filter(
        pl.col("intervention") == intervention, pl.col("control") == "", pl.col("metric") == "accuracy",
        pl.col("patched").is_not_nan(),
    )  # fmt: skip
    means = rows.group_by("layer").agg(pl.col("patched").mean()).sort("layer").collect()
    return means["patched"].to_list()
