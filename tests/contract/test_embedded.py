"""The model that ships: what the default run claims must hold on it."""

from __future__ import annotations

import importlib.resources
import json

import polars as pl
import pytest
from transformers import AutoTokenizer

from patchboard.embedded.tokenizer import build
from patchboard.execution.run import Options, run_study
from patchboard.spec import load_study
from tests.conftest import ROOT

WEIGHTS = importlib.resources.files("patchboard.embedded") / "weights"


def test_weights_and_tokenizer_are_those_of_the_code():
    assert (WEIGHTS / "model.safetensors").stat().st_size <= 8_000_000
    stored, made = AutoTokenizer.from_pretrained(str(WEIGHTS)), build()
    assert stored.get_vocab() == made.get_vocab()
    text = "0110 1100 -> 0100\nthe baker"
    assert stored(text)["input_ids"] == made(text)["input_ids"]
    assert json.loads((WEIGHTS / "config.json").read_text())["vocab_size"] == len(made.get_vocab())


@pytest.fixture(scope="module", params=["bitwise", pytest.param("pos", marks=pytest.mark.slow)])
def run(request, tmp_path_factory):
    """The default spec with fewer queries and layers of interest to this test only."""
    overrides = {
        "tasks.family": request.param,
        "prompts.shots": 0,
        "prompts.queries": 40,
        "decodability.prompts": 50,
        "decodability.shots": [0, 4, 8],
        "metrics": ["accuracy", "logprob"],
    }
    study = load_study(ROOT / "experiments" / "specs" / "patch_sweep.yaml", overrides)
    return request.param, run_study(study, Options(out=tmp_path_factory.mktemp("embedded") / "run"))


def test_every_task_is_learned_in_context_and_not_known_before(run):
    _, folder = run
    found = pl.read_parquet(folder / "decodability.parquet").filter(
        (pl.col("layer") == 0) & pl.col("accuracy").is_not_nan()
    )
    at = {(r["task"], r["shots"]): r["accuracy"] for r in found.iter_rows(named=True)}
    tasks = {task for task, _ in at if task != "ALL"}
    assert len(tasks) == 6
    assert all(at[task, 8] >= 0.9 for task in tasks), at
    assert at["ALL", 0] <= 0.35


def test_the_tasks_vector_acts_and_controls_do_not(run):
    """Adding the difference installs the task at 0 shots; another task's vector installs that other task."""
    family, folder = run
    point = json.loads((folder / "summary.json").read_text())["interventions"]["added"]
    assert point["effect"] >= {"bitwise": 0.4, "pos": 0.5}[family]
    assert point["ci_low"] > 0
    for control in ("random", "other_task"):
        assert point["controls"][control]["ci_high"] < point["ci_low"] / 2
    assert point["controls"]["self"]["effect"] == 0
    assert point["conversion"]["other_task"]["effect"] >= 0.4


def test_the_task_can_be_decoded(run):
    family, folder = run
    rows = pl.read_parquet(folder / "decodability.parquet").filter(pl.col("task") == "ALL")
    assert rows.filter(pl.col("shots") == 8)["cd"].max() >= {"bitwise": 0.75, "pos": 0.95}[family]
    assert rows.filter(pl.col("shots") == 0)["cd"].max() <= 0.3  # chance is 1/7


def test_the_run_trusts_itself(run):
    _, folder = run
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["noise_floor"]["logprob"] < 1e-4 and manifest["flip_rate"] == 0
    assert manifest["fallbacks"] == [] and manifest["excluded"] == {}
    assert next(iter(manifest["engine"].values())).startswith("wavefront")
