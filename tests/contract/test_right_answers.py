"""Several right answers a row: every outcome by hand, one forward pass an answer, from what the run folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from patchboard.embedded.tokenizer import build
from patchboard.execution.run import Options, run_study
from patchboard.spec import study_of

pytestmark = pytest.mark.slow

WORDS = "baker river garden letter boat child mountain teacher old cold found heard".split()
VECTOR = {"mean": "same_task", "shots": 0, "prompts": 6}


def said(model: Any, word: str, length: int) -> str:
    """What the model goes on with after the 0-shot prompt of a word."""
    tokenizer = build()
    ids = tokenizer(f"{word} ->", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        found = model.generate(
            ids, max_new_tokens=length, do_sample=False, eos_token_id=None, pad_token_id=0, suppress_tokens=[0, 1, 2, 3]
        )
    return " ".join(tokenizer.convert_ids_to_tokens(found[0, ids.shape[1] :].tolist()))


def rows_of(model: Any, task: int) -> list[dict[str, Any]]:
    """Answers of one to three tokens; for every second word one of them is what the model says."""
    rows = []
    for i, word in enumerate(WORDS):
        wrong = [WORDS[i - 3], f"{WORDS[i - 4]} {WORDS[i - 5 - task]}", f"the {WORDS[i - 6]} {WORDS[i - 7 - task]}"]
        answers = wrong[(i + task) % 3 :] + wrong[: (i + task) % 3]
        if i % 2 == task:
            answers.insert(1 + i % 3, said(model, word, 1 + i % 3))
        rows.append({"input": word, "output": answers[: 1 + i % 4] if i % 4 else answers[0]})
    return rows


def tree_of(llama_folder: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "several",
        "model": {"name": str(llama_folder)},
        "tasks": {"family": "pairs", "files": [str(folder / "one.jsonl"), str(folder / "two.jsonl")]},
        "prompts": {"shots": 0, "queries": 6},
        "interventions": {
            "p": {"op": "patch", "vector": VECTOR, "layers": [1, 2]},
            "w": {"op": "patch", "vector": VECTOR, "layers": [2], "position": ["last", "answer"]},
        },
        "controls": ["self", "other_task"],
        "metrics": ["accuracy", "logprob", "probability", "rank", "kl", "logit_difference"],
        "decodability": {"k": 2, "prompts": 6, "shots": [0, 2]},
        "statistics": {"bootstrap": 100},
        **changes,
    }


@pytest.fixture(scope="module")
def model(llama_folder):
    return AutoModelForCausalLM.from_pretrained(llama_folder).eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    for task, name in enumerate(("one", "two")):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows_of(model, task))))
    return folder


@pytest.fixture(scope="module")
def finished(llama_folder, folder) -> Path:
    return run_study(study_of(tree_of(llama_folder, folder)), Options(out=folder / "run"))


def right_of(row: dict[str, Any]) -> list[list[int]]:
    return row["right_answer_ids"] or [row["answer_ids"]]


def logits_of(model: Any, prompt: dict[str, Any], edit: tuple | None, answer: list[int]) -> torch.Tensor:
    """[answer token, vocab] of one plain forward pass; edit: (layer, vector, whether at the answer too)."""
    ids, at = prompt["token_ids"] + answer[:-1], prompt["position"]

    def patched(module: Any, inputs: Any, output: Any) -> Any:
        h = output[0] if isinstance(output, tuple) else output
        h[0, at : None if edit[2] else at + 1] = edit[1]
        return output

    hook = model.model.layers[edit[0]].register_forward_hook(patched) if edit else None
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, at:]
    if hook:
        hook.remove()
    return logits


def by_hand(metric: str, answers: list[list[int]], logits: Callable[[list[int]], torch.Tensor]) -> float:
    whole = [logits(answer) for answer in answers]
    sums = [
        sum(float(row.log_softmax(-1)[t]) for row, t in zip(found, answer, strict=True))
        for found, answer in zip(whole, answers, strict=True)
    ]
    if metric == "accuracy":
        return float(any(found.argmax(-1).tolist() == answer for found, answer in zip(whole, answers, strict=True)))
    if metric == "rank":
        return min(
            1 + int((found[0] > found[0, answer[0]]).sum()) for found, answer in zip(whole, answers, strict=True)
        )
    total = sum(np.exp(each) for each in sums)
    return float(total if metric == "probability" else np.log(total))


def test_every_outcome_by_hand(model, finished):
    outcomes = pl.read_parquet(finished / "outcomes.parquet").filter(pl.col("control") != "self")
    prompts = pl.read_parquet(finished / "prompts.parquet").filter(role="evaluate")
    known = {(row["task"], row["query"]): row for row in prompts.iter_rows(named=True)}
    of_text = {(row["task"], row["text"]): row for row in known.values()}
    assert {len(right_of(row)) for row in known.values()} >= {1, 2, 3}
    vectors = load_file(finished / "vectors.safetensors")
    seen = {"accuracy": [], "conversion": []}
    checked = 0
    for row in outcomes.filter(~pl.col("metric").is_in(["kl", "logit_difference"])).iter_rows(named=True):
        prompt, metric = known[row["task"], row["query"]], row["metric"]
        answers = right_of(prompt)
        if metric == "conversion":
            answers, metric = right_of(of_text[row["vector_task"], prompt["text"]]), "accuracy"
            if any(answer in right_of(prompt) for answer in answers):
                assert np.isnan(row["clean"])
                continue
        vector = vectors[f"{row['intervention']}/{row['vector_task']}/{row['layer']}"]
        edits = None, (row["layer"], vector, row["intervention"] == "w")
        expected = [by_hand(metric, answers, partial(logits_of, model, prompt, edit)) for edit in edits]
        np.testing.assert_allclose([row["clean"], row["patched"]], expected, rtol=1e-4, atol=2e-5, err_msg=str(row))
        seen.setdefault(row["metric"], []).extend(expected)
        checked += 1
    assert checked > 150 and {0.0, 1.0} <= set(seen["accuracy"]) and len(seen["conversion"]) > 10


def test_self_is_the_clean_run_for_every_answer(finished):
    """Also where states behind the prompt, of each answer's own tokens, are put in."""
    own = pl.read_parquet(finished / "outcomes.parquet").filter(control="self")
    assert own.filter(intervention="w", metric="logprob")["clean"].is_not_nan().sum() >= 6
    np.testing.assert_allclose(own["patched"], own["clean"], atol=1e-4, equal_nan=True)


def test_rows_give_the_same(llama_folder, folder, finished):
    other = run_study(study_of(tree_of(llama_folder, folder)), Options(out=folder / "rows", engine="rows"))
    keys = ["task", "query", "intervention", "control", "vector_task", "layer", "metric"]
    here, there = (pl.read_parquet(each / "outcomes.parquet").sort(keys) for each in (finished, other))
    for name in ("clean", "patched"):
        np.testing.assert_allclose(here[name], there[name], rtol=1e-4, atol=1e-4, equal_nan=True)


def test_exact_match_of_every_number_of_shots(model, finished):
    """CD's accuracy: of the query, and of the demonstrations as queries, by any of their right answers."""
    prompts = pl.read_parquet(finished / "prompts.parquet")
    right = {
        (task, rows["input"]): rows["output"] if isinstance(rows["output"], list) else [rows["output"]]
        for task, name in (("one", "one"), ("two", "two"))
        for rows in map(json.loads, (finished.parent / f"{name}.jsonl").read_text().splitlines())
    }
    tokenizer = build()
    expected: dict[tuple[str, int], list[float]] = {}
    for row in prompts.filter(pl.col("role") == "decodability", pl.col("task") != "Null").iter_rows(named=True):
        lines = row["text"].split("\n")
        for s in (0, 2):
            word = lines[s].split(" ->")[0].strip()
            text = "".join(f"{line}\n" for line in lines[:s]) + f"{word} ->"
            hits = []
            for answer in right[row["task"], word]:
                ids = tokenizer(answer, add_special_tokens=False)["input_ids"]
                before = tokenizer(text)["input_ids"]
                with torch.no_grad():
                    found = model(torch.tensor([before + ids[:-1]])).logits[0, len(before) - 1 :]
                hits.append(found.argmax(-1).tolist() == ids)
            expected.setdefault((row["task"], s), []).append(float(any(hits)))
    table = pl.read_parquet(finished / "decodability.parquet").filter(pl.col("layer") == 0, pl.col("task") != "ALL")
    found = {(row["task"], row["shots"]): row["accuracy"] for row in table.iter_rows(named=True)}
    for key, hits in expected.items():
        assert found[key] == pytest.approx(np.mean(hits)), key
    assert 0 < np.mean([hit for hits in expected.values() for hit in hits]) < 1
