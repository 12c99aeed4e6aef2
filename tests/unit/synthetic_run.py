"""A run with planted truth, made without a model: tables, and a whole run folder for the report.

Tasks become decodable from layer 2 on. Edits take hold around layer 3 only, and differently:
``positive`` and ``added`` install the task at 0 shots, ``negative`` destroys it at 4, ``erased``
does little although everything is decodable. Controls: ``self`` does nothing, ``random`` next to
nothing, ``other_task`` converts to the next task.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml

from patchboard.measure.decodability import decodability_table, label_codes
from patchboard.measure.effects import curves, effects
from patchboard.measure.nearest import voted
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap
from patchboard.measure.summary import summarise
from patchboard.store.schema import DECODABILITY, OUTCOMES, PROMPTS

TASKS = ("AND", "NAND", "OR", "NOR", "XOR", "XNOR")
LAYERS = 8
BEST = 3
SHOTS = (0, 4)
CD_SHOTS = (0, 1, 2, 4)
METRICS = ("accuracy", "logprob", "kl")
BOOTSTRAP = Bootstrap(400, 0.95, 0)

_CLEAN = {0: (0.02,) * 6, 4: (0.72, 0.55, 0.70, 0.50, 0.35, 0.33)}
# (intervention, control) -> largest change of the probability of a right answer at 0 and at 4 shots
_CHANGE = {
    ("positive", ""): (0.55, 0.16),
    ("positive", "random"): (0.0, -0.04),
    ("positive", "other_task"): (0.0, -0.40),
    ("added", ""): (0.30, 0.08),
    ("added", "random"): (0.0, -0.02),
    ("added", "other_task"): (0.0, -0.22),
    ("negative", ""): (0.0, -0.45),
    ("negative", "random"): (0.0, -0.05),
    ("erased", ""): (0.0, -0.02),
    ("erased", "random_subspace"): (0.0, -0.01),
}
_OPS = {"positive": "patch", "added": "add", "negative": "patch", "erased": "ablate"}


def _profile(layer: int) -> float:
    return float(np.exp(-0.5 * ((layer - BEST) / 1.2) ** 2))


def _cells(draws: int) -> Iterator[tuple[str, str, str, str]]:
    """(task, intervention, control, vector_task) of every cell of one layer."""
    for number, task in enumerate(TASKS):
        partner = TASKS[(number + 1) % len(TASKS)]
        for name in _OPS:
            own = {"negative": "Null", "erased": "tasks"}.get(name, task)
            yield task, name, "", own
            yield task, name, "self", ""
            for control in ("random", "other_task", "random_subspace"):
                if (name, control) in _CHANGE:
                    if control == "other_task":
                        yield task, name, control, partner
                    else:
                        yield from ((task, name, control, f"{own}~random{draw}") for draw in range(draws))


def outcomes(queries: int = 60, layers: int = LAYERS, draws: int = 2, seed: int = 0) -> pl.DataFrame:
    """store.schema.OUTCOMES and the swept field ``prompts.shots``."""
    rng = np.random.default_rng(seed)
    luck = {(task, shots): rng.random(queries) for task in TASKS for shots in SHOTS}
    lost = {"XOR": np.arange(queries) < 3}  # queries that could not be aligned
    keys, cleans, patcheds = [], [], []
    for at, shots in enumerate(SHOTS):
        for layer in range(layers):
            for task, name, control, vector_task in _cells(draws):
                chance = _CLEAN[shots][TASKS.index(task)]
                hard = 0.4 if task in ("XOR", "XNOR") else 1.0
                change = hard * _CHANGE.get((name, control), (0, 0))[at] * _profile(layer)
                drawn = luck[task, shots]
                jitter = 0.0 if control == "self" else rng.normal(0, 0.03, size=queries)
                before = (drawn < chance).astype(float)
                after = (drawn + jitter < chance + change).astype(float)
                log_before = np.log(chance) + 2 * (0.5 - drawn)
                log_after = log_before + np.log(max(chance + change, 0.01) / chance) + 8 * jitter
                values = {"accuracy": (before, after), "logprob": (log_before, log_after)}
                values["kl"] = (np.zeros(queries), np.abs(log_after - log_before) * 0.7)
                if control == "other_task":
                    converted = (rng.random(queries) < 0.5 * hard * _profile(layer)).astype(float)
                    agree = rng.random(queries) < 0.1  # both tasks have the same answer: undefined
                    values["conversion"] = (np.where(agree, np.nan, 0.0), converted)
                op = "patch" if control == "self" else _OPS[name]
                for metric, (clean, patched) in values.items():
                    undefined = np.isnan(clean) | lost.get(task, False)
                    keys.append((task, name, control, vector_task, op, layer, str(layer), shots, metric))
                    cleans.append(np.where(undefined, np.nan, clean))
                    patcheds.append(np.where(undefined, np.nan, patched))
    told = ("task", "intervention", "control", "vector_task", "op", "layer", "layers", "shots", "metric")
    # whole columns at once: a table for each cell and metric took minutes at 80 layers
    at = np.repeat(np.arange(len(keys)), queries)
    table = (
        pl.DataFrame(keys, schema=told, orient="row")[at]
        .with_columns(
            query=pl.Series(np.tile(np.arange(queries), len(keys))),
            clean=pl.Series(np.concatenate(cleans)),
            patched=pl.Series(np.concatenate(patcheds)),
            site=pl.lit("resid_post"),
            head=pl.lit(-1),
            position=pl.lit("last"),
            strength=pl.lit(1.0),
            seed=pl.lit(0),
        )
        .select(pl.col(name).cast(kind) for name, kind in OUTCOMES.items())
    )
    return table.with_columns(pl.col("shots").cast(pl.Int64).alias("prompts.shots"))


def decodability(points: int = 40, seed: int = 0) -> pl.DataFrame:
    """store.schema.DECODABILITY of planted clusters that part with depth and with demonstrations."""
    rng = np.random.default_rng(seed)
    labels = [label for label in (*TASKS, "Null") for _ in range(points)]
    centres = {label: rng.normal(size=12) for label in dict.fromkeys(labels)}
    for task, right in zip(TASKS, _CLEAN[4], strict=True):
        centres[task] *= (1.8 * right) ** 1.5  # what is hard to tell apart is hard to do
    codes = torch.from_numpy(label_codes(labels))
    found, exact = np.empty((LAYERS, len(CD_SHOTS), len(labels)), int), []
    for s, shots in enumerate(CD_SHOTS):
        known = 1 - np.exp(-shots / 1.5)
        for layer in range(LAYERS):
            apart = 1.1 * known * (1 - np.exp(-layer / 1.5)) * (1 - 0.05 * max(layer - 4, 0))
            states = np.stack([apart * centres[label] for label in labels]) + rng.normal(size=(len(labels), 12))
            found[layer, s] = voted(torch.from_numpy(states), codes, 10)
        right = {task: 0.02 + known * clean for task, clean in zip(TASKS, _CLEAN[4], strict=True)}
        chance = np.array([right.get(label, np.nan) for label in labels])
        exact.append(np.where(np.isnan(chance), np.nan, rng.random(len(labels)) < chance))
    return decodability_table(found, labels, np.stack(exact, axis=1), CD_SHOTS, 10, BOOTSTRAP)


def spec() -> dict[str, Any]:
    none = {"mean": None, "difference": None, "subspace": None, "rank": None}
    vector = {**none, "shots": 8, "prompts": 100, "only": "correct", "method": "pca"}
    place = {"layers": "all", "site": "resid_post", "position": "last", "strength": 1.0, "edits": None}
    return {
        "version": 1,
        "name": "planted",
        "model": {"name": "example/planted-8-layers", "revision": "main", "dtype": "auto"},
        "tasks": {"family": "bitwise", "include_null": True},
        "prompts": {"shots": {"sweep": [0, 4]}, "queries": 60, "seed": 0},
        "interventions": {
            "positive": {"op": "patch", "vector": {**vector, "mean": "same_task"}, **place},
            "added": {"op": "add", "vector": {**vector, "difference": ["same_task", "all_tasks"]}, **place},
            "negative": {"op": "patch", "vector": {**vector, "mean": "null_task"}, **place},
            "erased": {"op": "ablate", "vector": {**vector, "subspace": "tasks", "rank": 4}, **place},
        },
        "controls": [{"name": n, "draws": d} for n, d in (("self", 1), ("random", 2), ("other_task", 1))],
        "metrics": [*METRICS, "conversion"],
        "decodability": {"k": 10, "prompts": 40, "shots": list(CD_SHOTS)},
        "statistics": {"bootstrap": BOOTSTRAP.resamples, "level": 0.95, "seed": 0},
    }


def manifest() -> dict[str, Any]:
    return {
        "digest": "0123456789abcdef" * 4,
        "version": 1,
        "status": "finished",
        "name": "planted",
        "versions": {"python": "3.11.9", "torch": "2.13", "patchboard": "0.1.0"},
        "models": [{"name": "example/planted-8-layers", "revision": "abc1234", "family": "llama", "layers": LAYERS,
                    "width": 64, "parameters": 412_352, "dtype": "float32", "device": "cpu"}],
        "engine": {"example/planted-8-layers": "wavefront: equals rows within 1.2e-06 nats on a sample of cells"},
        "seeds": {"prompts": [0], "bootstrap": 0},
        "noise_floor": {"accuracy": 0.0, "logprob": 2.4e-6, "kl": 3.1e-9},
        "flip_rate": 0.0,
        "fallbacks": ["no fit prompt of XNOR was answered correctly: vectors use all fit prompts (only: all)"],
        "excluded": {"XOR": {"the answer is no whole number of tokens": 3}},
        "seconds": {"load": 0.8, "fit": 3.1, "packs": 11.4, "decodability": 2.2, "measure": 1.0, "total": 18.6},
        "cost": [{"forwards": 48, "token_layers": 812_000, "bound": 640_000, "loop_forwards": 20_160,
                  "loop_token_layers": 30_100_000, "saving": 37.1}],
        "tasks": [{"family": "bitwise", "bits": 5}],
    }  # fmt: skip


def prompts(table: pl.DataFrame) -> pl.DataFrame:
    """store.schema.PROMPTS: a text for each query of the outcomes, as of a run before places were noted."""
    rows = table.select("task", "query", "shots").unique(maintain_order=True).to_dicts()
    told = [
        {
            **row, "role": "evaluate", "text": f"{row['query']:04b} ->", "answer": "0", "token_ids": [1, 2],
            "answer_ids": [0], "position": 1, "excluded": "", "set": f"{row['task']}{row['shots']}",
            "swept": f"prompts.shots={row['shots']}",
        }
        for row in rows
    ]  # fmt: skip
    return pl.DataFrame(told, schema=PROMPTS)


def write_run_folder(
    folder: Path, table: pl.DataFrame, cd: pl.DataFrame | None, changes: Mapping[str, Any] | None = None
) -> Path:
    """The files of a finished run, as the report reads them. changes: manifest entries to replace."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec(), sort_keys=False))
    (folder / "manifest.json").write_text(json.dumps({**manifest(), **(changes or {})}))
    empty = pl.DataFrame(schema=DECODABILITY)
    made = summarise(index_outcomes(table), cd, "accuracy", BOOTSTRAP)
    (folder / "summary.json").write_text(json.dumps(made, allow_nan=False))
    table.write_parquet(folder / "outcomes.parquet")
    effects(index_outcomes(table), BOOTSTRAP).write_parquet(folder / "effects.parquet")
    curves(index_outcomes(table), BOOTSTRAP).write_parquet(folder / "curves.parquet")
    (empty if cd is None else cd).write_parquet(folder / "decodability.parquet")
    prompts(table).write_parquet(folder / "prompts.parquet")
    return folder
