"""Planted truth: a model built by hand whose block 2 reads the demonstrations and writes the concept."""

from __future__ import annotations

import json

import polars as pl
import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.execution.run import Options, run_study
from patchboard.spec import study_of
from tests.models import idle_model

LAYERS, WRITES, WIDTH = 5, 2, 64
CONSTANT, MARK, CONCEPT = 0, 1, 2
"""Dimensions of the residual stream: a constant (so that norms are alike), a token's own mark (+ for the
answer of task yes, - for that of no), the concept that block WRITES computes from the marks of all earlier tokens."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Attention of block WRITES averages the marks of all tokens into the concept; nothing else acts.

    A prompt without demonstrations holds no marks, so it is answered wrongly under either task.
    """
    tokenizer = build()
    vocabulary = tokenizer.get_vocab()
    model = idle_model(len(vocabulary), WIDTH, LAYERS)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        embedding = model.model.embed_tokens.weight
        embedding[:, 3:] = torch.randn(len(vocabulary), WIDTH - 3, generator=generator) * 0.3
        embedding[:, CONSTANT] = 2.0
        embedding[vocabulary["garden"], MARK] = 4.0
        embedding[vocabulary["river"], MARK] = -4.0
        attention = model.model.layers[WRITES].self_attn
        attention.v_proj.weight[MARK, MARK] = 1.0  # queries and keys are zero: every token weighs the same
        attention.o_proj.weight[CONCEPT, MARK] = 30.0
        head = model.lm_head.weight
        # every other token reads directions of its own, so that a random vector makes some of them likely
        head[:, 3:] = torch.randn(len(vocabulary), WIDTH - 3, generator=generator)
        for answer, sign in (("garden", 2.0), ("river", -2.0)):
            head[vocabulary[answer]] = 0
            head[vocabulary[answer], CONCEPT] = sign
    folder = tmp_path_factory.mktemp("planted")
    model.eval().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    inputs = [w for w in vocabulary if w.isalpha() and w not in ("garden", "river", "the")]
    for task, answer in (("yes", "garden"), ("no", "river")):
        (folder / f"{task}.json").write_text(json.dumps([{"input": w, "output": answer} for w in inputs]))
    return folder


@pytest.fixture(scope="module")
def result(planted):
    vector = {"shots": 4, "prompts": 20}
    tree = {
        "model": {"name": str(planted / "model")},
        "tasks": {
            "family": "pairs",
            "files": [str(planted / f"{task}.json") for task in ("yes", "no")],
            "include_null": False,
        },
        "prompts": {"shots": 0, "queries": 20},
        "interventions": {
            "patched": {"op": "patch", "vector": {**vector, "mean": "same_task"}},
            "added": {"op": "add", "vector": {**vector, "difference": ["same_task", "all_tasks"]}, "strength": 1},
        },
        "controls": ["self", {"random": {"draws": 3}}, "other_task"],
        "metrics": ["accuracy", "logprob"],
        "decodability": {"k": 5, "prompts": 20, "shots": [0, 4]},
        "statistics": {"bootstrap": 300},
    }  # fmt: skip
    return run_study(study_of(tree), Options(out=planted / "run"))


def curve(result, intervention, control, metric="accuracy", column="patched"):
    rows = pl.read_parquet(result / "curves.parquet").filter(
        (pl.col("intervention") == intervention) & (pl.col("control") == control) & (pl.col("metric") == metric)
    )
    return rows.sort("layer")[column].to_list()


@pytest.mark.parametrize("intervention", ["patched", "added"])
def test_the_sweep_finds_where_the_concept_is_written(result, intervention):
    assert curve(result, intervention, "", column="clean") == [0.0] * LAYERS
    assert curve(result, intervention, "") == [0.0] * WRITES + [1.0] * (LAYERS - WRITES)


@pytest.mark.parametrize("intervention", ["patched", "added"])
def test_controls_find_nothing(result, intervention):
    assert curve(result, intervention, "self", column="effect") == [0.0] * LAYERS
    assert curve(result, intervention, "other_task") == [0.0] * LAYERS
    # before block WRITES a random state has a mark of its own, which that block duly reads
    assert max(curve(result, intervention, "random")[WRITES:]) < 0.2


def test_decodability_rises_where_the_concept_is_written(result):
    rows = pl.read_parquet(result / "decodability.parquet").filter(pl.col("task") == "ALL").sort("layer")
    informed = rows.filter(pl.col("shots") == 4)["cd"].to_list()
    assert all(cd < 0.75 for cd in informed[:WRITES]) and informed[WRITES:] == [1.0] * (LAYERS - WRITES)
    assert all(cd < 0.75 for cd in rows.filter(pl.col("shots") == 0)["cd"])


def test_the_summary_names_the_layer(result):
    summary = json.loads((result / "summary.json").read_text())
    for name in ("patched", "added"):
        entry = summary["interventions"][name]
        assert entry["best_layer"] == WRITES and entry["effect"] == 1.0 and entry["cd_at_best_layer"] == 1.0
        assert entry["decodable_but_not_causal"] == []
