"""A tiny run's numbers, pinned: who changes them is told to raise the results version."""

from __future__ import annotations

import polars as pl
import pytest

from patchboard.execution.identity import RESULTS_VERSION
from patchboard.execution.options import Options
from patchboard.execution.run import run_study
from patchboard.spec.study import study_of

PINNED = {
    1: {
        "patched  1": -5.7354, "patched  1 low": -6.0057, "patched random 1": -3.2662, "patched random 1 low": -4.4953,
        "patched  3": -5.4881, "patched  3 low": -6.485, "patched random 3": -3.344, "patched random 3 low": -3.8297,
        "erased  2": -0.0958, "erased  2 low": -0.2272, "erased random_subspace 2": -0.0063,
        "erased random_subspace 2 low": -0.0157,
        "cd 0": 0.2222, "cd 1": 0.2222, "cd 2": 0.2778, "cd 3": 0.2778, "cd 4": 0.5556, "cd 5": 0.5556,
    },
}  # fmt: skip
"""Results version -> what it computes with the shipped weights: effects in nats by layer, CD by layer. The last one is
held against a run."""


def numbers(tmp_path) -> dict[str, float]:
    vector = {"mean": "same_task", "shots": 1, "prompts": 4}
    tree = {
        "tasks": {"family": "bitwise", "only": ["AND", "XOR"]},
        "prompts": {"shots": 1, "queries": 3},
        "interventions": {
            "patched": {"op": "patch", "vector": vector, "layers": [1, 3]},
            "erased": {"op": "ablate", "vector": {"subspace": "tasks", "shots": 1, "prompts": 4}, "layers": [2]},
        },
        "controls": ["random"], "metrics": ["logprob"], "decodability": {"k": 2, "prompts": 6, "shots": [1]},
        "statistics": {"bootstrap": 100},
    }  # fmt: skip
    run = run_study(study_of(tree), Options(out=tmp_path / "run"))
    found = {}
    for row in pl.read_parquet(run / "effects.parquet").filter(task="XOR").iter_rows(named=True):
        found[f"{row['intervention']} {row['control']} {row['layer']}"] = row["effect"]
        found[f"{row['intervention']} {row['control']} {row['layer']} low"] = row["ci_low"]
    for row in pl.read_parquet(run / "decodability.parquet").filter(task="ALL").iter_rows(named=True):
        found[f"cd {row['layer']}"] = row["cd"]
    return {name: round(value, 4) for name, value in found.items()}


def test_numbers_change_with_the_results_version_only(tmp_path, monkeypatch):
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)
    assert max(PINNED) == RESULTS_VERSION, "pin the numbers of the new version"
    found = numbers(tmp_path)
    assert found == pytest.approx(PINNED[RESULTS_VERSION], abs=2e-4), (
        f"numbers have changed: raise RESULTS_VERSION in execution/identity.py, and pin {found} for it"
    )
