"""Control `unrelated`: the same edit in texts of no task, against transformers and a hook; its queries; refusals."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import patchboard as pb
from patchboard.tasks.plain_texts import OF_THE_EMBEDDED, SHIPPED, plain_texts, text_prompts
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write

TEXTS = ["the old baker watched the garden", "she never found the letter", "0101 behind the boat", "they heard him"]
ADDED = {"op": "add", "vector": {"difference": ["same_task", "all_tasks"], "shots": 1, "prompts": 4}, "layers": [1, 2]}


@pytest.fixture
def texts(tmp_path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n\n".join(TEXTS) + "\n")
    return file


def tree(model: Path, file: Path, **changes) -> dict:
    rest = {"metrics": ["accuracy", "logprob", "kl"], "decodability": None, "interventions": {"a": ADDED}, **changes}
    return tiny_tree(model, controls=["random", {"unrelated": {"texts": str(file)}}], **rest)


def by_a_hook(folder: Path, text: str, vector: torch.Tensor, layer: int, every_token: bool) -> tuple[float, float]:
    """(KL in nats at the last word, change of that word's log-probability), the vector added by a plain hook."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text, return_tensors="pt").input_ids

    def add(_, __, output):
        states = output[0] if isinstance(output, tuple) else output
        states[:, slice(None) if every_token else -1] += vector
        return output

    with torch.no_grad():
        clean = model(ids[:, :-1]).logits[0, -1].double().log_softmax(-1)
        handle = model.model.layers[layer].register_forward_hook(add)
        edited = model(ids[:, :-1]).logits[0, -1].double().log_softmax(-1)
        handle.remove()
    word = ids[0, -1]
    return float((clean.exp() * (clean - edited)).sum()), float(edited[word] - clean[word])


@pytest.mark.parametrize("position", ["last", "all"])
def test_it_is_the_edit_in_the_text(llama_folder, texts, tmp_path, position):
    tree_ = tree(llama_folder, texts, interventions={"a": {**ADDED, "position": position}})
    assert run(tree_, tmp_path / "run") == 0
    outcomes = pb.open(tmp_path / "run").outcomes.filter(pl.col("control") == "unrelated")
    vectors = load_file(tmp_path / "run" / "vectors.safetensors")
    assert set(outcomes["task"]) == {"AND", "OR", "XOR"} and set(outcomes["query"]) == set(range(len(TEXTS)))
    for task, layer, query in outcomes.select("task", "layer", "query").unique().iter_rows():
        here = outcomes.filter(pl.col("task") == task, pl.col("layer") == layer, pl.col("query") == query)
        value = {row["metric"]: row["patched"] - row["clean"] for row in here.iter_rows(named=True)}
        vector = vectors[f"a/{task}/{layer}"]
        kl, change = by_a_hook(llama_folder, TEXTS[query], vector, layer, position == "all")
        assert value["kl"] == pytest.approx(kl, abs=1e-5) and value["logprob"] == pytest.approx(change, abs=1e-5)


def test_its_queries_are_the_texts(llama_folder, texts, tmp_path):
    """They are counted for themselves, shown with what was edited, and compared as they are."""
    assert run(tree(llama_folder, texts), tmp_path / "run") == 0
    done = pb.open(tmp_path / "run")
    counts = done.curves.group_by("control").agg(pl.col("n").unique(), pl.col("excluded").unique()).sort("control")
    assert counts.rows() == [("", [9], [0]), ("random", [9], [0]), ("unrelated", [12], [0])]
    rows = done.prompts.filter(pl.col("role") == "unrelated", pl.col("task") == "OR")
    assert [f"{text} {answer}" for text, answer in rows.select("text", "answer").iter_rows()] == TEXTS
    shown = done.examples("a", layer=1, task="XOR", control="unrelated", order="random", n=9)
    assert {row["edited"][0] for row in shown.iter_rows(named=True)} == {"the", "heard"}
    table = pb.compare(done, done)
    assert len(table) == len(done.effects) and table["difference"].abs().max() == 0 and table["paired"].all()
    assert str(texts) in manifest_of(tmp_path / "run")["identity"]["data"]


def test_other_texts_are_another_run(llama_folder, texts, tmp_path, capsys):
    tree_ = tree(llama_folder, texts)
    assert run(tree_, tmp_path / "run") == 0
    capsys.readouterr()
    texts.write_text("\n".join(TEXTS[:3]))
    assert run(tree_, tmp_path / "run") == 2
    assert "texts.txt" in one_error(capsys)


def test_only_edits_that_a_text_can_have(llama_folder, texts, tmp_path):
    """One at the demonstrations' answers, and one with another prompt's state, have no rows there."""
    interventions = {
        "a": ADDED,
        "at_demonstrations": {**ADDED, "position": "demo_outputs"},
        "resampled": {"op": "resample", "layers": [1]},
        "put_back": {"op": "patch", "source": "clean", "layers": [1]},
    }
    assert run(tree(llama_folder, texts, interventions=interventions), tmp_path / "run") == 0
    rows = pb.open(tmp_path / "run").curves.filter(pl.col("control") == "unrelated")
    assert set(rows["intervention"]) == {"a", "put_back"}
    put_back = rows.filter(pl.col("intervention") == "put_back")["effect"].to_numpy()
    assert abs(put_back).max() < 1e-6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("the old baker\nhello there\n", "'hello' is not in the tokenizer's vocabulary"),
        ("the old baker\n\nbaker\n", "line 3 of"),
        ("the old baker\n", "has 1 text, expected at least 2"),
    ],
)
def test_wrong_texts_are_told(llama_folder, texts, tmp_path, capsys, content, said):
    texts.write_text(content)
    assert run(tree(llama_folder, texts), tmp_path / "run") == 2
    assert said in one_error(capsys) and not (tmp_path / "run").exists()


def test_a_missing_file_and_edits_that_no_text_can_have(llama_folder, texts, tmp_path, capsys):
    assert run(tree(llama_folder, tmp_path / "none.txt"), tmp_path / "run") == 2
    assert "there is no file" in one_error(capsys)
    only = {"a": {"op": "resample", "layers": [1]}}
    assert run(tree(llama_folder, texts, interventions=only), tmp_path / "run") == 2
    assert "controls[1]: no edit can be made in a plain text" in one_error(capsys)


def test_the_shipped_texts(llama_folder):
    """All different, and the embedded model's own are of its lexicon."""
    assert len(set(SHIPPED)) == len(SHIPPED) == 48
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    own = plain_texts(None, True, "here")
    assert len(set(own)) == len(own) == OF_THE_EMBEDDED
    prompts = text_prompts(own, tokenizer, "auto", "AND", "here")
    assert [f"{prompt.text} {prompt.answer}" for prompt in prompts] == own


def test_emit_leaves_the_texts_alone(llama_folder, texts, tmp_path, capsys):
    """A script has the task's prompts, and no cell of these."""
    from patchboard.commands.main import main

    spec = write(tree(llama_folder, texts), tmp_path / "spec.yaml")
    assert main(["emit", spec, "--out", str(tmp_path / "script.py")]) == 0
    assert "unrelated" not in (tmp_path / "script.py").read_text()
