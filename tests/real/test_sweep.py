"""A small fixed sweep: its numbers, and its clean scores by plain forward passes and greedy decoding."""

from __future__ import annotations

import polars as pl
import pytest
import torch

import patchboard as pb

VECTOR = {"shots": 4, "prompts": 10}
LAYERS = {"smollm2-135m": [4, 16, 20, 26], "gemma3-270m": [3, 9, 13, 17]}


@pytest.fixture(scope="session")
def swept(loaded, pair_files, tmp_path_factory):
    where = {"op": "patch", "layers": LAYERS[loaded.name]}
    tree = {
        "name": "real",
        "model": {"name": loaded.name, "dtype": "float32"},
        "tasks": {"family": "pairs", "files": pair_files, "include_null": False},
        "prompts": {"shots": 4, "queries": 8},
        "interventions": {
            "own": {**where, "vector": {"mean": "same_task", **VECTOR}},
            "other": {**where, "vector": {"mean": "other_task", **VECTOR}},
        },
        "metrics": ["accuracy", "logprob"],
        "decodability": {"k": 5, "prompts": 10, "shots": [4]},
        "statistics": {"bootstrap": 200},
    }
    return pb.run(tree, out=tmp_path_factory.mktemp(loaded.name) / "run", device="cpu")


def evaluated(run: pb.Run) -> list[dict]:
    """Each evaluated prompt with its clean scores."""
    scores = run.outcomes.filter(pl.col("intervention") == "own").pivot(
        "metric", index=("task", "query"), values="clean", aggregate_function="first"
    )
    prompts = run.prompts.filter(pl.col("role") == "evaluate")
    return prompts.join(scores, on=("task", "query")).to_dicts()


def test_clean_logprobs_are_those_of_a_plain_forward_pass(loaded, swept):
    rows = evaluated(swept)
    assert len(rows) == 16
    for row in rows:
        prompt, answer = row["token_ids"], row["answer_ids"]
        with torch.no_grad():
            logits = loaded.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        own = logits.log_softmax(-1).gather(1, torch.tensor(answer)[:, None]).sum()
        assert row["logprob"] == pytest.approx(own.item(), abs=2e-4), row["text"]


def test_greedy_decoding_gives_the_answers_that_count_as_right(loaded, swept):
    rows = evaluated(swept)
    for row in rows:
        prompt = torch.tensor([row["token_ids"]])
        said = loaded.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=len(row["answer_ids"])
        )
        right = said[0, prompt.shape[1] :].tolist() == list(row["answer_ids"])
        assert row["accuracy"] == right, row["text"]
    lengths = {(len(row["answer_ids"]) > 1, row["accuracy"]) for row in rows}
    assert {(False, 1.0), (True, 1.0)} <= lengths, "right answers of one and of several tokens"
    assert any(row["accuracy"] == 0 for row in rows)


NUMBERS_OF = "smollm2-135m"
EXPECTED = {
    ("own", 4): (-0.0625, -0.013),
    ("own", 16): (0.0, 0.027),
    ("own", 20): (0.0, -0.007),
    ("own", 26): (-0.9375, -6.928),
    ("other", 4): (0.0, 0.020),
    ("other", 16): (-0.1875, -0.449),
    ("other", 20): (-0.9375, -6.742),
    ("other", 26): (-0.9375, -14.911),
}
"""(intervention, layer) -> mean effect on accuracy, and on the log-probability in nats. The task's own mean costs
nothing up to layer 20, another task's takes nearly every answer there."""


def test_the_numbers_are_those_that_were_found(swept, loaded):
    if loaded.name != NUMBERS_OF:
        pytest.skip(f"the numbers are {NUMBERS_OF}'s")
    effects = swept.effects.filter(pl.col("control") == "").group_by("intervention", "layer", "metric").agg(
        pl.col("effect").mean()
    )  # fmt: skip
    found = {(row["intervention"], row["layer"], row["metric"]): row["effect"] for row in effects.to_dicts()}
    for (intervention, layer), (accuracy, logprob) in EXPECTED.items():
        assert found[intervention, layer, "accuracy"] == pytest.approx(accuracy, abs=1e-6)
        assert found[intervention, layer, "logprob"] == pytest.approx(logprob, abs=0.005)
    cd = swept.decodability.filter((pl.col("task") == "ALL") & pl.col("layer").is_in(LAYERS[loaded.name]))
    assert cd["cd"].to_list() == [1.0] * 4, "tasks as different as these are told apart at every layer"
