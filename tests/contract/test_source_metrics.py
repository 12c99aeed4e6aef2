"""Metrics that hold a run against that of the source whose states it is given: identities, from file to table."""

from __future__ import annotations

import json
import re

import numpy as np
import polars as pl
import pytest
import torch
from transformers import LlamaForCausalLM

from patchboard.embedded.tokenizer import build
from tests.contract.cases import case_tree, write_cases
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree

NORMALISED = "normalised_logit_difference"
METRICS = [NORMALISED, "logit_difference", "kl_source"]
AT_LAST = {"op": "patch", "source": "flip", "layers": 3, "position": "last"}
SECTIONS = {
    "whole": AT_LAST,
    "embeddings": {**AT_LAST, "layers": 0, "site": "resid_pre", "position": ["IO", "S1", "S2"]},
    "some": {**AT_LAST, "layers": 1, "position": "S2"},
    "none": {"op": "zero", "layers": 1},
}


@pytest.fixture(scope="module")
def said(llama_folder):
    """Text -> the model's logits behind it [vocab], float64."""
    model, tokenizer = LlamaForCausalLM.from_pretrained(llama_folder), build()

    @torch.no_grad()
    def logits(text: str) -> np.ndarray:
        text = re.sub(r"\{\w+: ([\w ]+)\}", r"\1", text)
        return model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1].double().numpy()

    return logits


@pytest.fixture(scope="module")
def cases(said, tmp_path_factory):
    """Answers and foils such that the base's run gives a larger difference than flip's in every row."""
    file = write_cases(tmp_path_factory.mktemp("cases") / "cases.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        answer, foil = (build()(line[key])["input_ids"][-1] for key in ("answer", "foils"))
        base, flip = (said(line[key])[answer] - said(line[key])[foil] for key in ("base", "source_flip"))
        if base < flip:
            line["answer"], line["foils"] = line["foils"], line["answer"]
            line["source_flip_answer"] = line["foils"]
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def ran(folder, out, cases, **changes):
    assert run(tiny_tree(folder, **case_tree(cases, **{"metrics": METRICS, **changes})), out) == 0
    return pl.read_parquet(out / "effects.parquet")


@pytest.fixture(scope="module")
def noised(llama_folder, cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("noised") / "run"
    return ran(llama_folder, out, cases, interventions=SECTIONS), out


def one(rows: pl.DataFrame, name: str, metric: str = NORMALISED, control: str = "") -> dict:
    return rows.filter(intervention=name, metric=metric, control=control).row(0, named=True)


def test_the_corrupted_run_is_0_and_the_clean_one_1(noised):
    rows, _ = noised
    for name in ("whole", "embeddings"):
        row = one(rows, name)
        assert (row["clean"], row["n"]) == (1.0, 6)
        assert abs(row["patched"]) < 1e-4 and abs(row["ci_low"] + 1) < 1e-4 and abs(row["ci_high"] + 1) < 1e-4
        assert abs(one(rows, name, control="self")["patched"] - 1) < 1e-4
    clean, corrupted, some = (one(rows, name, "logit_difference") for name in ("none", "whole", "some"))
    share = (some["patched"] - corrupted["patched"]) / (clean["clean"] - corrupted["patched"])
    assert abs(one(rows, "some")["patched"] - share) < 1e-4 and abs(share - 1) > 1e-2
    assert one(rows, "none")["n"] == 0, "nothing says what 0 is"


def test_in_the_other_direction_the_clean_run_is_still_1(llama_folder, cases, tmp_path, noised):
    sections = {name: {**section, "source": "base"} for name, section in SECTIONS.items() if name != "none"}
    changes = {"interventions": {**sections, "none": SECTIONS["none"]}}
    prompts = {**case_tree(None)["prompts"], "corrupted": "flip"}  # type: ignore[arg-type]
    rows = ran(llama_folder, tmp_path / "run", cases, prompts=prompts, **changes)
    assert one(rows, "whole")["clean"] == 0.0 and abs(one(rows, "whole")["patched"] - 1) < 1e-4
    assert abs(one(rows, "embeddings")["patched"] - 1) < 1e-4
    assert abs(one(rows, "whole", control="self")["patched"]) < 1e-4
    plain, clean = (one(table, "none", "logit_difference") for table in (rows, noised[0]))
    share = (plain["patched"] - plain["clean"]) / (clean["clean"] - plain["clean"])
    assert abs(one(rows, "none")["patched"] - share) < 1e-4, "of any edit: both ends are there"


def test_kl_to_the_source_is_0_at_its_run_and_else_that_of_the_logits(noised, said):
    rows, out = noised
    for name in ("whole", "embeddings"):
        assert abs(one(rows, name, "kl_source")["patched"]) < 1e-6
    assert one(rows, "none", "kl_source")["n"] == 0
    prompts = pl.read_parquet(out / "prompts.parquet").sort("query")
    outcomes = pl.read_parquet(out / "outcomes.parquet").filter(metric="kl_source", intervention="some", control="")
    for text, clean, patched in zip(
        prompts["text"], outcomes.sort("query")["clean"], outcomes.sort("query")["patched"], strict=True
    ):
        io, subject = re.search(r"the (\w+) with the (\w+) near", text).groups()  # type: ignore[union-attr]
        flip = text.replace(io, "~").replace(subject, io).replace("~", subject)
        p, q = (logits - np.logaddexp.reduce(logits) for logits in (said(flip), said(text)))
        assert abs(clean - (np.exp(p) * (p - q)).sum()) < 1e-5
        assert abs(patched - clean) > 1e-5


def test_ends_that_are_not_told_apart_give_no_number_and_a_note(llama_folder, tmp_path):
    cases = write_cases(tmp_path / "cases.jsonl")
    rows = ran(llama_folder, tmp_path / "run", cases, interventions={"some": SECTIONS["some"]})
    row = one(rows, "some")
    assert row["n"] == 0 and row["excluded"] == 6 and np.isnan(row["patched"]) and np.isnan(row["ci_low"])
    assert one(rows, "some", "logit_difference")["n"] == 6
    (note,) = manifest_of(tmp_path / "run")["fallbacks"]
    told = f"{NORMALISED} of counterfactual has no number: the clean run less the corrupted one (source flip) is "
    assert note.startswith(told)


def test_a_metric_that_adds_copies_moves_no_other(llama_folder, cases, tmp_path, noised):
    plain = ran(llama_folder, tmp_path / "run", cases, interventions=SECTIONS, metrics=["logit_difference"])
    assert "scale" not in pl.read_parquet(tmp_path / "run" / "outcomes.parquet").columns
    same = noised[0].filter(pl.col("metric").is_in(["logit_difference", "conversion"]))
    for name in ("clean", "patched", "ci_low", "n"):
        assert np.allclose(plain[name], same[name], atol=1e-5, rtol=0)


def test_a_screen_goes_by_another_metric_and_what_runs_has_the_same_numbers(llama_folder, cases, tmp_path):
    sections = {"each": {**AT_LAST, "layers": "all"}}
    whole = ran(llama_folder, tmp_path / "whole", cases, interventions=sections)
    screen = {"method": "attribution", "keep": 2, "sample": 0}
    some = ran(llama_folder, tmp_path / "some", cases, interventions=sections, screen=screen)
    assert set(pl.read_parquet(tmp_path / "some" / "screen.parquet")["metric"]) == {"logit_difference"}
    both = some.join(whole, on=["layer", "control", "metric"], suffix="_whole")
    assert len(both) == len(some) and some["layer"].n_unique() == 2 and (some["n"] > 0).all()
    for name in ("patched", "ci_low"):
        assert np.allclose(both[name], both[f"{name}_whole"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("metric", ["kl_source", NORMALISED])
def test_without_a_source_it_is_refused_in_one_line(llama_folder, cases, tmp_path, capsys, metric):
    frozen = {"op": "patch", "source": "clean", "layers": 1}
    tree = case_tree(cases, interventions={"none": SECTIONS["none"], "frozen": frozen}, metrics=["logprob", metric])
    assert run(tiny_tree(llama_folder, **tree), tmp_path / "run") == 2
    assert one_error(capsys) == (
        f"error: metrics[1]: '{metric}' needs an edit with the states of another prompt, there is none; write source:"
        " NAME in an intervention, or leave it out"
    )
    assert not (tmp_path / "run").exists()
