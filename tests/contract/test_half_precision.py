"""Models in bfloat16 and float16: runs end to end, whose statistics and scores are not rounded as the weights are."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from patchboard.embedded.tokenizer import build
from patchboard.engine.batch import Capture
from patchboard.engine.device import slow_dtype
from patchboard.engine.local import LocalEngine
from patchboard.engine.states import captured
from patchboard.execution.planned import plan_study
from patchboard.spec import study_of
from patchboard.vectors.statistics import PlaceStatistics
from tests.contract.tiny import manifest_of, run, tiny_tree
from tests.models import random_model

HALVES = [torch.bfloat16, torch.float16]
ERASED = {"op": "ablate", "vector": {"subspace": "tasks", "method": "leace", "shots": 1, "prompts": 8}, "layers": [1]}
MANY = {"mean": "same_task", "shots": 1, "prompts": 12}


def rounded(states: Tensor, dtype: torch.dtype) -> Tensor:
    return states.to(dtype).to(states.dtype)


def apart(found: Tensor, exact: Tensor) -> float:
    """Largest difference over the largest number."""
    return float((found.double() - exact).abs().max() / exact.abs().max())


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_means_of_many_states_are_those_of_float64(dtype):
    """Planted: states far from zero, whose sum in the model's own dtype would stand still after some hundred."""
    drawn = torch.randn(3000, 2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    states = drawn.to(dtype)
    exact = states.double().mean(0)
    statistics = PlaceStatistics((0, 1), ("A",), keep_states=True)
    for some in states.split(7):
        statistics.update("A", some, torch.ones(len(some), dtype=torch.bool))
    assert apart(statistics.means(["A"], 1, "all")[0], exact[1]) < 1e-12
    assert apart(statistics.labelled(0, "all")[0].mean(0), exact[0]) < 1e-12
    naive = sum(states[:, 1], torch.zeros(16, dtype=dtype)).double() / len(states)
    assert apart(naive, exact[1]) > 0.05


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_mean_over_a_prompts_tokens_is_that_of_float64(dtype):
    h = (torch.randn(1, 400, 8, generator=torch.Generator().manual_seed(1)) + 5).to(dtype)
    rows, cols = torch.zeros(400, dtype=torch.long), torch.arange(400)
    found = captured(h, Capture("resid_post", (0,), rows, cols, rows, 1))
    assert found.dtype == torch.float32 and apart(found[0], h[0].double().mean(0)) < 1e-6


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_fit_takes_the_models_states_as_they_are(dtype, llama_folder):
    """States are the model's numbers, none of them rounded again; their mean is float64's within 1e-6."""
    (plan,) = plan_study(study_of(tiny_tree(llama_folder, interventions={"erased": ERASED})))
    engine = LocalEngine(random_model("llama").to(dtype), build())
    for statistics in engine.fit(plan.fits).values():
        for task in ("AND", "OR"):
            states = torch.cat([each for name, each, _ in statistics.states if name == task])
            assert states.dtype == torch.float32 and torch.equal(states, rounded(states, dtype))
            assert apart(statistics.means([task], 1, "all")[0], states[:, 0].double().mean(0)) < 1e-6


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_a_run_in_half_precision(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)
    tree = tiny_tree(tmp_path, prompts={"shots": 2, "queries": 6}) | {"model": {"name": "embedded"}}
    tree |= {"interventions": {"p": {"op": "patch", "vector": MANY, "layers": "all"}, "erased": ERASED}}
    tree |= {"tasks": {"family": "bitwise", "only": ["AND", "OR", "XOR"]}, "metrics": ["accuracy", "logprob", "kl"]}
    assert run(tree, tmp_path / "whole") == 0
    assert run(tree, tmp_path / "half", "--dtype", dtype) == 0
    assert manifest_of(tmp_path / "half")["models"][0]["dtype"] == dtype
    whole, half = (pl.read_parquet(tmp_path / name / "outcomes.parquet") for name in ("whole", "half"))
    keys = [name for name in whole.columns if name not in ("clean", "patched")]
    both = whole.join(half, on=keys, suffix="_half").filter(metric="logprob")
    assert len(both) == len(whole.filter(metric="logprob"))
    distance = np.abs(both["clean"] - both["clean_half"])
    assert 0 < distance.max() < 0.5, "nats"
    scores = half.filter(metric="logprob")["patched"].drop_nulls().to_torch()
    assert not torch.equal(scores, rounded(scores, getattr(torch, dtype))), "scores are float32"
    vectors = [load_file(tmp_path / name / "vectors.safetensors") for name in ("whole", "half")]
    for key, exact in vectors[0].items():
        if key.startswith("p/"):
            found = vectors[1][key]
            assert found.dtype == torch.float32 and not torch.equal(found, rounded(found, getattr(torch, dtype)))
            assert 0 < apart(found, exact.double()) < 0.05
    cds = [pl.read_parquet(tmp_path / name / "decodability.parquet")["cd"] for name in ("whole", "half")]
    assert (cds[0] - cds[1]).abs().max() < 0.3


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_a_processor_without_instructions_for_it_is_told(dtype, monkeypatch):
    cpu, name = torch.device("cpu"), str(dtype).removeprefix("torch.")
    asked = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    for able in (True, False):
        monkeypatch.setattr(torch.ops.mkldnn, asked, lambda able=able: able)
        note = slow_dtype(cpu, dtype)
        assert note == "" if able else note.startswith(f"this processor computes {name} without instructions for it")
        assert slow_dtype(cpu, torch.float32) == slow_dtype(torch.device("cuda", 0), dtype) == ""
