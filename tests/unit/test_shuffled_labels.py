"""Demonstrations with each other's outputs: what changes places, what stays, and where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.embedded.tokenizer import build
from patchboard.report.described import describe
from patchboard.spec.prompts import TemplateSection
from patchboard.tasks.base import Item
from patchboard.tasks.prompts import Prompter
from patchboard.tasks.sets import Halves, derangement
from tests.contract.tiny import run, tiny_tree

NUMBERS = [f"{i:04b}" for i in range(16)]


@dataclass(frozen=True)
class Unique:
    """Every input has an answer that no other input has, so that an answer tells which row it is of."""

    tasks: tuple[str, ...] = ("A", "B")

    def pool(self, seed: int) -> list[Item]:
        return [Item(n, {"A": NUMBERS[i - 1], "B": NUMBERS[i - 5]}) for i, n in enumerate(NUMBERS)]


def read(text: str, answers: dict[str, str]) -> tuple[list[str], list[int], str]:
    """(demonstrations' inputs, for each which demonstration its output is of, query); answers: input -> its own."""
    *lines, query = text.split("\n")
    pairs = [line.split(" -> ") for line in lines]
    inputs = [given for given, _ in pairs]
    return inputs, [[answers[given] for given in inputs].index(output) for _, output in pairs], query


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("shots", [2, 3, 6])
def test_outputs_are_deranged_alike_in_all_tasks_and_nothing_else_changes(shots, shared):
    halves, prompter = Halves(Unique(), 3), Prompter(build(), TemplateSection())  # type: ignore[arg-type]
    own, shuffled = (
        halves.prompts(prompter, "evaluate", ["A", "B"], shots, 8, others=["A", "B"], shared=shared, shuffled=each)
        for each in (False, True)
    )
    orders = {}
    for task in ("A", "B"):
        answers = {item.input: item.answers[task] for item in halves.family.pool(3)}
        for i, (before, after) in enumerate(zip(own[task], shuffled[task], strict=True)):
            inputs, order, query = read(after.text, answers)
            assert (inputs, list(range(shots)), query) == read(before.text, answers)
            assert sorted(order) == list(range(shots)) and all(order[j] != j for j in range(shots))
            same = ("task", "answer", "answer_ids", "alternatives", "positions", "excluded")
            assert [getattr(before, name) for name in same] == [getattr(after, name) for name in same]
            assert before.token_ids != after.token_ids and len(before.token_ids) == len(after.token_ids)
            assert orders.setdefault(i, order) == order, "matched: all tasks in the same way"
    if shared:
        assert len({prompt.text.rsplit("\n", 1)[0] for prompt in shuffled["A"]}) == 1
    elif shots > 2:
        assert len({tuple(order) for order in orders.values()}) > 1, "every prompt in its own way"
    again = Halves(Unique(), 3).prompts(prompter, "evaluate", ["A"], shots, 8, ["A", "B"], shared, True)  # type: ignore[arg-type]
    assert again["A"] == shuffled["A"]


@settings(deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6))
def test_nothing_keeps_its_place(size, seed):
    order = derangement(size, np.random.default_rng(seed))
    assert sorted(order) == list(range(size)) and all(i != j for i, j in enumerate(order))


def test_each_derangement_is_as_likely():
    """4 things have 9; 3,600 draws give each 400 ± 19, and never a third off."""
    rng = np.random.default_rng(0)
    counts = Counter(tuple(derangement(4, rng)) for _ in range(3600))
    assert len(counts) == 9 and all(300 < count < 500 for count in counts.values())


def test_a_run_shuffles_evaluated_prompts_alone_and_can_sweep_it(llama_folder, tmp_path):
    tree = tiny_tree(llama_folder, prompts={"shots": 4, "queries": 3, "labels": {"sweep": ["own", "shuffled"]}})
    assert run(tree, tmp_path / "both") == 0
    prompts = pl.read_parquet(tmp_path / "both" / "prompts.parquet")
    evaluated = prompts.filter(role="evaluate")
    assert set(evaluated["swept"]) == {"prompts.labels=own", "prompts.labels=shuffled"}
    assert evaluated["text"].n_unique() == evaluated.height == 2 * 3 * 3
    outcomes = pl.read_parquet(tmp_path / "both" / "outcomes.parquet").filter(metric="logprob", control="", layer=1)
    own, shuffled = (outcomes.filter(pl.col("prompts.labels") == each) for each in ("own", "shuffled"))
    assert own.height == shuffled.height == 9
    assert (own["clean"] - shuffled["clean"]).abs().to_numpy().min() > 1e-4
    plain = tiny_tree(llama_folder, prompts={"shots": 4, "queries": 3})
    assert run(plain, tmp_path / "plain") == 0
    before = pl.read_parquet(tmp_path / "plain" / "prompts.parquet")
    kept = ["role", "task", "query", "text", "answer", "token_ids"]
    for role in ("fit", "decodability"):
        assert prompts.filter(role=role).select(kept).equals(before.filter(role=role).select(kept)), role


@pytest.mark.slow
def test_shared_demonstrations_are_shuffled_once_and_computed_once(llama_folder, tmp_path):
    prompts = {"shots": 3, "queries": 4, "demonstrations": "shared", "labels": "shuffled"}
    tree = tiny_tree(llama_folder, prompts=prompts, decodability=None)
    found = {}
    for engine in ("wavefront", "rows"):
        assert run(tree, tmp_path / engine, "--engine", engine) == 0
        found[engine] = pl.read_parquet(tmp_path / engine / "outcomes.parquet").filter(metric="logprob")["patched"]
    assert (found["wavefront"] - found["rows"]).abs().max() < 1e-4
    texts = pl.read_parquet(tmp_path / "rows" / "prompts.parquet").filter(role="evaluate", task="AND")["text"]
    assert len({text.rsplit("\n", 1)[0] for text in texts}) == 1 and texts.n_unique() == 4


def test_the_page_says_so():
    spec = {
        "tasks": {"family": "bitwise"}, "controls": [], "decodability": None, "metrics": ["kl"],
        "statistics": {"level": 0.9, "bootstrap": 100},
    }  # fmt: skip
    said = {}
    for labels in ("own", "shuffled", {"sweep": ["own", "shuffled"]}):
        prompts = {"shots": 4, "queries": 3, "demonstrations": "shared", "labels": labels}
        said[str(labels)] = describe({**spec, "prompts": prompts}, {"models": []}, ["AND"])[0]
    own, shuffled, both = said.values()
    assert own.endswith("for all queries of a task.")
    assert shuffled.endswith("for all queries of a task, each with another one's output.")
    assert both.endswith("for all queries of a task, with their own outputs or another's (swept).")
