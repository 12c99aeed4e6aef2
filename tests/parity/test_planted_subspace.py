"""Planted truth: a model whose answer is read off a known plane of states. DAS finds the plane, steering uses it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from patchboard.embedded.tokenizer import build
from patchboard.execution.run import Options, run_study
from patchboard.spec import study_of
from tests.models import idle_model

LAYERS, WIDTH, CONSTANT, NOISY = 2, 48, 0, 12
ANSWERS = ("garden", "river", "boat", "letter")
CODES = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
"""Where in the plane a word that has the n-th answer lies."""
DEGREES = 15
"""The largest principal angle to the planted plane: 120 pairs leave some tilt towards what words happen to share. Two
random planes are at some 80 degrees."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> tuple[Path, torch.Tensor]:
    """(folder with the model and its cases, the plane [d_model, 2]).

    Blocks add nothing, so a token's state is its embedding in all of them: its code in the plane, and noise outside.
    """
    tokenizer, generator = build(), torch.Generator().manual_seed(0)
    vocabulary = tokenizer.get_vocab()
    model = idle_model(len(vocabulary), WIDTH, LAYERS)
    free = torch.randn(WIDTH, WIDTH, generator=generator)
    free[CONSTANT] = 0
    basis, _ = torch.linalg.qr(torch.cat([torch.eye(WIDTH)[:, [CONSTANT]], free[:, 1:]], 1))
    plane, outside = basis[:, 1:3], basis[:, 3:]
    words = [w for w in vocabulary if w.isalpha() and w not in (*ANSWERS, "the")]
    answer_of = {word: number % 4 for number, word in enumerate(words)}
    with torch.no_grad():
        embedding, head = model.model.embed_tokens.weight, model.lm_head.weight
        embedding[:, CONSTANT] = 4.0
        embedding += torch.randn(len(vocabulary), NOISY, generator=generator) @ outside[:, :NOISY].T * 0.3
        head += torch.randn(len(vocabulary), WIDTH - 3, generator=generator) @ outside.T * 0.1
        head[:, CONSTANT] = -2.0  # four answers compete, and none of them is sure: what tilts the plane costs something
        for word, number in answer_of.items():
            embedding[vocabulary[word]] += plane @ CODES[number]
        for number, word in enumerate(ANSWERS):
            head[vocabulary[word]] = plane @ CODES[number]
    folder = tmp_path_factory.mktemp("plane")
    model.eval().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    _write_cases(folder, words, answer_of)
    return folder, plane


def _write_cases(folder: Path, words: list[str], answer_of: dict[str, int]) -> None:
    """Two words, of which the last one tells the answer; and a task whose answer is the same for every word."""
    rng = np.random.default_rng(0)
    cases, always = [], []
    for first, word in itertools.islice(zip(rng.choice(words, 400), rng.choice(words, 400), strict=True), 400):
        other = rng.choice([w for w in words if answer_of[w] != answer_of[word]])
        cases.append({
            "base": f"{first} {word}", "answer": ANSWERS[answer_of[word]], "source_flip": f"{first} {other}",
            "source_flip_answer": ANSWERS[answer_of[other]],
        })  # fmt: skip
        always.append({"input": f"{first} {word}", "output": ANSWERS[1]})
    (folder / "cases.jsonl").write_text("\n".join(map(json.dumps, {case["base"]: case for case in cases}.values())))
    (folder / "always.json").write_text(json.dumps(list({row["input"]: row for row in always}.values())))


def tree(folder: Path, interventions: dict[str, Any], family: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "model": {"name": str(folder / "model")},
        "tasks": {**family, "include_null": False},
        "prompts": {"shots": 0, "queries": 40, "template": {"input": "{input}", "output": " {output}"}},
        "interventions": interventions,
        "controls": ["self", {"random": {"draws": 3}}],
        "metrics": ["logprob", "accuracy"],
        "decodability": None,
        "statistics": {"bootstrap": 200},
        **changes,
    }


def degrees(right: torch.Tensor, plane: torch.Tensor) -> list[float]:
    """Principal angles between the subspaces, the smallest first."""
    cosines = torch.linalg.svdvals(right.double() @ plane.double()).clamp(max=1.0)
    return torch.rad2deg(torch.arccos(cosines)).tolist()


@pytest.fixture(scope="module")
def found(planted, tmp_path_factory) -> Path:
    folder, _ = planted
    das = {"das": "flip", "prompts": 160}
    swap = {"op": "swap", "source": "flip"}
    sections = {
        "one": {**swap, "vector": {**das, "rank": 1}, "layers": [1]},
        "two": {**swap, "vector": {**das, "rank": 2}, "layers": "all"},
        "bounded": {**swap, "vector": {**das, "rank": 8, "boundless": True}, "layers": [0, 1]},
        "erased": {"op": "ablate", "vector": {**das, "rank": 2}, "layers": [1]},
    }
    spec = tree(folder, sections, {"family": "counterfactual", "files": [str(folder / "cases.jsonl")]})
    return run_study(study_of(spec), Options(out=tmp_path_factory.mktemp("found") / "run"))


def curve(run: Path, name: str, metric: str, control: str = "") -> list[float]:
    rows = pl.read_parquet(run / "curves.parquet").filter(intervention=name, metric=metric, control=control)
    return rows.sort("layer")["patched"].to_list()


def test_das_finds_the_plane_and_the_swap_converts_held_out_prompts(planted, found):
    vectors = load_file(found / "vectors.safetensors")
    for layer in range(LAYERS):
        assert max(degrees(vectors[f"two/counterfactual/{layer}"], planted[1])) < DEGREES
        drawn = vectors[f"two/counterfactual~random0/{layer}"]
        assert max(degrees(drawn, planted[1])) > 60 and drawn.shape == (2, WIDTH)
    assert min(curve(found, "two", "conversion")) > 0.9
    assert max(curve(found, "two", "conversion", "random_subspace")) < 0.2
    assert curve(found, "one", "conversion")[0] < 0.7, "the answer has two dimensions"


def test_what_is_learned_for_swaps_can_be_erased(found):
    assert curve(found, "erased", "accuracy")[0] < 0.5 < 0.9 < curve(found, "erased", "accuracy", "random_subspace")[0]


def test_boundless_settles_on_the_planted_rank(planted, found):
    rows = pl.read_parquet(found / "learned.parquet").filter("chosen", intervention="bounded")
    assert set(rows["rank"]) <= {2, 3} and len(rows) == 2
    vectors = load_file(found / "vectors.safetensors")
    for row in rows.iter_rows(named=True):
        right = vectors[row["vector"]]
        assert len(right) == row["rank"] and max(degrees(right, planted[1])) < DEGREES
    assert min(curve(found, "bounded", "conversion")) > 0.9


def test_the_table_tells_of_held_out_pairs_by_step(found):
    table = pl.read_parquet(found / "learned.parquet").filter(intervention="two", layer=1).sort("step")
    assert table["step"].to_list()[:3] == [0, 10, 20] and table["held_out_accuracy"][0] < 0.3
    assert (table["pairs"].unique().to_list(), table["held_out"].unique().to_list()) == ([120], [40])
    kept = table.filter("chosen").row(0, named=True)
    assert kept["held_out_loss"] == table["held_out_loss"].min() and kept["held_out_accuracy"] > 0.9
    assert np.isnan(table["training_loss"][0]) and table["training_loss"][1:].is_not_nan().all()
    summary = json.loads((found / "summary.json").read_text())["learned"]
    (told,) = [entry for entry in summary if entry["intervention"] == "two"]
    assert told["best"]["accuracy"] > 0.9 and told["best"]["rank"] == 2 and told["best"]["drawn"] < 0.3


def test_steering_installs_the_answer(planted, tmp_path):
    folder, plane = planted
    sections = {
        "steered": {"op": "add", "vector": {"steer": "same_task", "prompts": 80}, "layers": [0, 1]},
        "short": {"op": "add", "vector": {"steer": "same_task", "prompts": 80, "norm": 0.05}, "layers": [1]},
    }
    family = {"family": "pairs", "files": [str(folder / "always.json")]}
    run = run_study(study_of(tree(folder, sections, family)), Options(out=tmp_path / "run"))
    clean = pl.read_parquet(run / "curves.parquet").filter(intervention="steered", metric="accuracy")["clean"]
    assert clean.max() < 0.5 < 0.95 < min(curve(run, "steered", "accuracy"))
    assert max(curve(run, "steered", "accuracy", "random")) < 0.6
    vectors = load_file(run / "vectors.safetensors")
    for layer in (0, 1):
        vector = vectors[f"steered/always/{layer}"]
        inside = plane.T @ vector
        assert float(inside.norm() / vector.norm()) > 0.7, "of a random vector .2; other words' logits fall as well"
        assert float(torch.cosine_similarity(inside, CODES[1], dim=0)) > 0.95
    lengths = [float(vectors[f"{name}/always/1"].norm()) for name in ("steered", "short")]
    mean = load_file(folder / "model" / "model.safetensors")["model.embed_tokens.weight"].norm(dim=1).mean()
    assert lengths[1] < 0.055 * mean < lengths[0] < 1.1 * mean
