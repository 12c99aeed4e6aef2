"""A finished run's folder of any size, made without a model: every vector works best in the middle of the layers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from patchboard.measure.effects import curves, effects
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap
from patchboard.measure.summary import summarise
from patchboard.spec import dump_yaml, study_of
from patchboard.store.schema import DECODABILITY, OUTCOMES, PROMPTS

SIZES = {"layers": 80, "vectors": 7, "tasks": 7, "queries": 100}
CONTROLS = ("", "self", "random", "other_task")
METRICS = ("accuracy", "logprob", "kl")
SHOTS = 4
BOOTSTRAP = Bootstrap(200, 0.95, 0)
"""Fewer resamples than a run's: the page does not depend on how many there were."""


def write(folder: Path, layers: int, vectors: int, tasks: int, queries: int) -> None:
    """The files of a finished run that its page is made of."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"task{number}" for number in range(tasks)]
    table = _outcomes(layers, vectors, names, queries)
    index = index_outcomes(table)
    cd = _decodability(layers, names)
    (folder / "spec.yaml").write_text(dump_yaml(study_of(_spec(vectors, queries)).tree))
    (folder / "manifest.json").write_text(json.dumps(_manifest(layers)))
    table.write_parquet(folder / "outcomes.parquet")
    effects(index, BOOTSTRAP).write_parquet(folder / "effects.parquet")
    curves(index, BOOTSTRAP).write_parquet(folder / "curves.parquet")
    cd.write_parquet(folder / "decodability.parquet")
    _prompts(names, queries).write_parquet(folder / "prompts.parquet")
    (folder / "summary.json").write_text(json.dumps(summarise(index, cd, METRICS[0], BOOTSTRAP)))


def _outcomes(layers: int, vectors: int, tasks: list[str], queries: int) -> pl.DataFrame:
    """store.schema.OUTCOMES. Values of a query hang together: its luck is that of all its cells."""
    rng = np.random.default_rng(0)
    shape = (len(tasks), vectors, len(CONTROLS), layers, queries)
    luck = rng.random((len(tasks), 1, 1, 1, queries))
    control = np.arange(len(CONTROLS)).reshape(1, 1, -1, 1, 1)
    peak = np.exp(-0.5 * ((np.arange(layers) - 0.4 * layers) / (0.1 * layers)) ** 2).reshape(1, 1, 1, -1, 1)
    size = np.linspace(0.6, 0.2, vectors).reshape(1, -1, 1, 1, 1) * np.array([1, 0, 0.05, -0.6])[control] * peak
    noise = np.where(control == 1, 0.0, rng.normal(0, 0.1, shape))  # control self changes nothing
    before = np.broadcast_to(np.log(0.4) - 2 * luck, shape)
    after = before + 2 * size + noise
    values = {
        "accuracy": ((before > np.log(0.2)) * 1.0, (after > np.log(0.2)) * 1.0),
        "logprob": (before, after),
        "kl": (np.zeros(shape), np.abs(after - before) * 0.7),
    }
    names = [f"vector{number}" for number in range(vectors)]
    codes = np.indices((*shape[:-1], len(METRICS), queries)).reshape(6, -1)
    words = (tasks, names, CONTROLS, range(layers), METRICS, range(queries))
    columns = ("task", "intervention", "control", "layer", "metric", "query")
    texts = {name: pl.Series(list(of)).gather(at) for name, of, at in zip(columns, words, codes, strict=True)}
    clean, patched = (np.stack([values[name][side] for name in METRICS], axis=-2).ravel() for side in (0, 1))
    table = pl.DataFrame({**texts, "clean": clean, "patched": patched}).with_columns(
        vector_task=pl.col("task"), layers=pl.col("layer").cast(pl.String), op=pl.lit("patch"),
        site=pl.lit("resid_post"), head=-1, position=pl.lit("last"), strength=1.0, shots=SHOTS, seed=0,
    )  # fmt: skip
    return table.select(pl.col(name).cast(kind) for name, kind in OUTCOMES.items())


def _decodability(layers: int, tasks: list[str]) -> pl.DataFrame:
    """store.schema.DECODABILITY: rises over layers and with shots."""
    at = [(task, layer, shots) for task in ("ALL", *tasks) for layer in range(layers) for shots in (0, 1, 2, SHOTS)]
    table = pl.DataFrame(at, schema=("task", "layer", "shots"), orient="row").with_columns(
        cd=0.15 + 0.8 * (1 - (-pl.col("layer") / (0.2 * layers)).exp()) * pl.col("shots") / SHOTS,
        k=10, n=100, chance=1 / len(tasks), accuracy=0.6,
    )  # fmt: skip
    table = table.with_columns(ci_low=pl.col("cd") - 0.03, ci_high=pl.col("cd") + 0.03)
    return table.select(pl.col(name).cast(kind) for name, kind in DECODABILITY.items())


def _prompts(tasks: list[str], queries: int) -> pl.DataFrame:
    """store.schema.PROMPTS: four demonstrations and a query, a token for each character."""
    rng = np.random.default_rng(1)
    rows = []
    for task in tasks:
        for query in range(queries):
            numbers = rng.integers(0, 32, (SHOTS + 1, 3))
            lines = [f"{a:05b} {b:05b} -> {c:05b}" for a, b, c in numbers]
            text, answer = "\n".join(lines)[:-6], lines[-1][-6:]
            places = json.dumps({"last": [len(text) - 1], "query": list(range(len(text) - 14, len(text) - 3))})
            rows.append({
                "role": "evaluate", "task": task, "query": query, "shots": SHOTS, "text": text, "answer": answer,
                "token_ids": [*map(ord, text)], "answer_ids": [*map(ord, answer)], "position": len(text) - 1,
                "starts": list(range(len(text))), "places": places, "excluded": "", "set": task, "swept": "",
            })  # fmt: skip
    return pl.DataFrame(rows, schema=PROMPTS)


def _spec(vectors: int, queries: int) -> dict:
    vector = {"mean": "same_task", "prompts": 100}
    return {
        "name": "large",
        "prompts": {"shots": SHOTS, "queries": queries},
        "interventions": {
            f"vector{n}": {"op": "patch", "vector": {**vector, "shots": n + 1}, "layers": "all"} for n in range(vectors)
        },
        "controls": list(CONTROLS[1:]),
        "metrics": list(METRICS),
    }


def _manifest(layers: int) -> dict:
    model = {"name": "example/planted", "revision": "main", "family": "llama", "layers": layers, "width": 8192}
    return {
        "digest": "0" * 64, "version": 1, "status": "finished", "name": "large", "versions": {"patchboard": "0.1.0"},
        "models": [{**model, "parameters": 70_000_000_000, "dtype": "bfloat16", "device": "cuda"}], "engine": {},
        "seeds": {"prompts": [0], "bootstrap": 0}, "noise_floor": dict.fromkeys(METRICS, 0.0), "flip_rate": 0.0,
        "fallbacks": [], "excluded": {}, "seconds": {}, "cost": [], "tasks": [{"family": "bitwise", "bits": 5}],
    }  # fmt: skip
