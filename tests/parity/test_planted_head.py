"""Planted truth for a screen: a model in which one head alone moves anything from token to token."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch

from patchboard.execution.run import Options, run_study
from patchboard.spec import study_of
from tests.contract.cases import case_tree, write_cases
from tests.contract.tiny import tiny_tree
from tests.models import random_model, save

LAYER, HEAD, HEADS = 2, 1, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Neither the MLPs nor any other head write to the stream, so the states before the answer differ by this head."""
    model = random_model("llama")
    with torch.no_grad():
        for number, block in enumerate(model.model.layers):
            block.mlp.down_proj.weight.zero_()
            out = block.self_attn.o_proj.weight
            size = out.shape[1] // HEADS
            for head in range(HEADS):
                out[:, head * size : (head + 1) * size] *= 10 if (number, head) == (LAYER, HEAD) else 0
    return save(model, tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("method", ["attribution", "integrated_gradients"])
@pytest.mark.parametrize("source", ["flip", "third"])
def test_the_head_that_carries_all_is_kept_first(folder, tmp_path, source, method):
    cases = write_cases(tmp_path / "cases.jsonl")
    heads = {"op": "patch", "source": source, "site": "head", "layers": "all", "position": "last"}
    stream = {"op": "patch", "source": source, "layers": 3, "position": "last"}
    both = {"heads": heads, "all": stream}
    screen = {"keep": 2, "sample": 4, "method": method}
    tree = tiny_tree(folder, **case_tree(cases, interventions=both, metrics=["logit_difference"], screen=screen))
    run = run_study(study_of(tree), Options(tmp_path / "run"))
    table = pl.read_parquet(run / "screen.parquet").sort("rank")
    assert table["intervention"].to_list()[:2] in (["heads", "all"], ["all", "heads"])
    kept = table.filter(intervention="heads", chosen="kept")
    assert kept.select("layer", "head").rows() == [(LAYER, HEAD)]
    assert table.filter(pl.col("chosen") != "kept")["estimate"].abs().max() == 0
    effects = pl.read_parquet(run / "effects.parquet").filter(control="", metric="logit_difference")
    whole = effects.filter(intervention="all")["effect"].item()
    assert abs(whole) > 0.05
    found = effects.filter(intervention="heads", layer=LAYER, head=HEAD)["effect"].item()
    assert found == pytest.approx(whole, abs=1e-4), "it carries all that the last state holds of the source"
    others = effects.filter(intervention="heads").filter((pl.col("layer") != LAYER) | (pl.col("head") != HEAD))
    assert len(others) == 4 and others["effect"].abs().max() < 1e-4
    missed = json.loads((run / "summary.json").read_text())["screen"]["points"][0]["missed"]
    assert (missed["above"], missed["sampled"], missed["others"]) == (0, 4, 15)
