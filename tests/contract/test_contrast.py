"""contrast: vectors of a user's paired texts, against the states that transformers itself gives."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from patchboard.commands.main import main
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write

PAIRS = [
    ("the old baker -> noun", "the young teacher -> verb"),
    ("0101 1100 ->", "0000"),
    ("brave child", "the cold river found"),
]
REST = {"controls": ["random"], "decodability": None}


@pytest.fixture
def pairs(tmp_path) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps({"positive": one, "negative": other}) + "\n" for one, other in PAIRS))
    return file


def tree(model: Path, file: Path, position: object = "last", **vector) -> dict:
    section = {"op": "add", "vector": {"contrast": str(file), **vector}, "layers": [1, 2], "position": position}
    return tiny_tree(model, interventions={"c": section}, **REST)


def by_transformers(folder: Path, layer: int, every_token: bool) -> torch.Tensor:
    """The mean over pairs of the difference, by hand: one text at a time, at its last token or over all."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)

    def state(text: str) -> torch.Tensor:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[layer + 1][
                0
            ]
        return (states.mean(0) if every_token else states[-1]).double()

    return torch.stack([state(one) - state(other) for one, other in PAIRS]).mean(0)


@pytest.mark.parametrize(
    ("position", "vector", "every_token"),
    [("last", {}, False), ("all", {}, True), ("all", {"fitted_at": {"position": "last"}}, False)],
)
def test_it_is_the_mean_difference(llama_folder, pairs, tmp_path, position, vector, every_token):
    """At the edit's own position in the texts, or where the spec says that it is fitted."""
    assert run(tree(llama_folder, pairs, position, **vector), tmp_path / "run") == 0
    found = load_file(tmp_path / "run" / "vectors.safetensors")
    for layer in (1, 2):
        expected = by_transformers(llama_folder, layer, every_token).float()
        torch.testing.assert_close(found[f"c/contrast/{layer}"], expected, rtol=1e-4, atol=1e-5)
    told = manifest_of(tmp_path / "run")["identity"]["data"]
    assert list(told) == [str(pairs)]
    fitted = pl.read_parquet(tmp_path / "run" / "prompts.parquet").filter(pl.col("role") == "fit")
    assert fitted["text"].to_list() == [one for one, _ in PAIRS] + [other for _, other in PAIRS]
    effects = pl.read_parquet(tmp_path / "run" / "effects.parquet")
    assert {"", "random"} == {*effects["control"]} and effects["effect"].is_not_null().all()


def test_tables_hold_pairs_too(llama_folder, pairs, tmp_path):
    table = tmp_path / "pairs.csv"
    with open(table, "w", newline="") as opened:
        csv.writer(opened).writerows([("positive", "negative"), *PAIRS])
    for name, file in (("one", pairs), ("other", table)):
        assert run(tree(llama_folder, file), tmp_path / name) == 0
    one, other = (load_file(tmp_path / name / "vectors.safetensors") for name in ("one", "other"))
    assert all(one[key].equal(other[key]) for key in ("c/contrast/1", "c/contrast/2"))


def test_other_texts_are_another_run(capsys, llama_folder, pairs, tmp_path):
    assert run(tree(llama_folder, pairs), tmp_path / "run") == 0
    pairs.write_text(json.dumps({"positive": "old", "negative": "young"}))
    assert run(tree(llama_folder, pairs), tmp_path / "run") == 2
    assert f"was run on other contents of {pairs}" in one_error(capsys)


@pytest.mark.parametrize(
    ("text", "vector", "told"),
    [
        ('{"positive": "0 1"}', {}, "interventions.c.vector.contrast: line 1 of"),
        ('{"positive": "0 1", "negative": ["1", "0"]}', {}, "has several negative texts; write a row for each"),
        ('{"positive": "0 1", "negative": " "}', {}, "has an empty negative"),
        ("", {}, "is empty"),
        ('{"positive": "0", "negative": "1"}', {"prompts": 5}, "vector.prompts: found the whole number 5 beside con"),
        ('{"positive": "0", "negative": "1"}', {"fitted_at": 1}, "fitted_at: may name the position in the texts al"),
        ('{"positive": "0", "negative": "1"}', {"key": "a"}, "vector.key: found the text 'a' beside contrast"),
    ],
)  # fmt: skip
def test_refusals(capsys, llama_folder, tmp_path, text, vector, told):
    file = tmp_path / "pairs.jsonl"
    file.write_text(text)
    assert run(tree(llama_folder, file, **vector), tmp_path / "run") == 2
    assert told in one_error(capsys) and not (tmp_path / "run" / "outcomes.parquet").exists()


def test_a_position_that_texts_have_not(capsys, llama_folder, pairs, tmp_path):
    assert run(tree(llama_folder, pairs, "query"), tmp_path / "run") == 2
    assert "position query names no token in any fit prompt of positive" in one_error(capsys)


def test_texts_that_the_tokenizer_cannot_read(capsys, llama_folder, pairs, tmp_path):
    with open(pairs, "a") as opened:
        opened.write(json.dumps({"positive": "the old", "negative": "the elder"}))
    assert run(tree(llama_folder, pairs), tmp_path / "run") == 2
    assert "the negative text of pair 3: 'elder' is not in the tokenizer's vocabulary" in one_error(capsys)


def test_shuffled_answers_have_no_meaning(capsys, llama_folder, pairs, tmp_path):
    assert run(tree(llama_folder, pairs) | {"controls": ["shuffled"]}, tmp_path / "run") == 2
    assert "shuffled needs an intervention with a vector fitted on demonstrations" in one_error(capsys)


@pytest.mark.slow
def test_an_emitted_script_recomputes_it(llama_folder, pairs, tmp_path):
    spec = write(tree(llama_folder, pairs), tmp_path / "spec.yaml")
    assert main(["run", spec, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    script = tmp_path / "script.py"
    assert main(["emit", str(tmp_path / "run"), "--out", str(script)]) == 0
    found = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    apart = re.search(r"largest difference from the run: (\S+), of 18 values", found.stdout)
    assert apart and float(apart[1]) < 1e-5
