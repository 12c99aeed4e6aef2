"""Runs that keep the likeliest next tokens: the same by every way, held against the outcomes and the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import patchboard as pb
from patchboard.commands.main import main
from patchboard.engine import memory
from patchboard.engine.local import LocalEngine
from patchboard.errors import SpecError
from patchboard.execution.planned import plan_study
from patchboard.execution.run import Options, run_study
from patchboard.measure.kept_tokens import KEPT
from patchboard.measure.scored_group import ScoredGroup
from patchboard.measure.top_tokens import top_rows, top_schema
from patchboard.plan import shown
from patchboard.spec import study_of
from patchboard.store.schema import TOP_TOKENS
from tests.contract.tiny import VECTOR, one_error, run, tiny_tree, write
from tests.unit.test_explorer_data import block_of, words

FILE = "top_tokens.parquet"
KEYS = ("task", "query", "intervention", "layer", "strength", "shots")


def tree_of(folder: Path, **changes: Any) -> dict[str, Any]:
    section = {"op": "patch", "vector": VECTOR, "layers": [1, 2], "strength": {"sweep": [1.0, 0.5]}}
    zeroed = {"op": "zero", "site": "attn_out", "layers": [3], "position": "query"}
    texts = folder.parent / "texts-beside.txt"
    texts.write_text("the old teacher carried the boat\nthe boat painted the garden\n")
    given = {
        "interventions": {"p": section, "z": zeroed}, "prompts": {"shots": {"sweep": [0, 1]}, "queries": 5},
        "metrics": ["accuracy", "logprob", "rank"],
        "controls": ["self", "random", "other_task", {"unrelated": {"texts": str(texts)}}],
        "outcomes": {"top_tokens": 4}, "decodability": None,
    }  # fmt: skip
    return tiny_tree(folder, **{**given, **changes})


@pytest.fixture(scope="module")
def finished(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "run"
    return run_study(study_of(tree_of(llama_folder)), Options(out))


def test_each_own_cell_has_its_tokens_and_each_prompt_its_clean_run_once(finished):
    table = pb.open(finished).top_tokens
    patched, clean = (table.filter(pl.col("run") == name) for name in ("patched", "clean"))
    assert len(patched) == 3 * 2 * 5 * (2 * 2 + 1) and len(clean) == 3 * 2 * 5
    assert not patched.select(*KEYS).is_duplicated().any() and set(patched["control"]) == {""}
    assert clean.select("intervention", "layer", "strength").unique().rows() == [(None, None, None)]
    assert not clean.select("task", "query", "shots").is_duplicated().any()
    for row in table.iter_rows(named=True):
        assert len(row["tokens"]) == len(set(row["token_ids"])) == 4
        assert row["logprobs"] == sorted(row["logprobs"], reverse=True)


def test_rank_and_probability_of_the_answer_are_the_metrics(finished):
    """Answers are single tokens here, so that the two are of the same token."""
    done = pb.open(finished)
    assert set(done.prompts["answer_ids"].list.len()) == {1}
    table = done.top_tokens
    own = done.outcomes.filter(pl.col("control") == "")
    for name, column in (("rank", "answer_rank"), ("logprob", "answer_logprob")):
        values = own.filter(pl.col("metric") == name)
        found = table.filter(pl.col("run") == "patched").join(values, on=KEYS, how="inner")
        assert len(found) == len(values) > 100
        assert (found[column] - found["patched"]).abs().max() < 1e-6  # pyright: ignore[reportOperatorIssue]
        clean = table.filter(pl.col("run") == "clean").select("task", "query", "shots", column)
        before = values.join(clean, on=("task", "query", "shots"), how="inner")
        assert len(before) == len(values)
        assert (before[column] - before["clean"]).abs().max() < 1e-6  # pyright: ignore[reportOperatorIssue]
    assert table["answer_rank"].n_unique() > 5


def test_the_answer_stands_at_its_rank(finished):
    done = pb.open(finished)
    answers = done.prompts.filter(pl.col("role") == "evaluate").select("task", "query", "shots", "answer", "answer_ids")
    rows = done.top_tokens.join(answers, on=("task", "query", "shots")).rows(named=True)
    for row in rows:
        place = row["answer_rank"] - 1
        assert (row["answer_ids"][0] in row["token_ids"]) == (place < 4)
        if place < 4:
            assert row["token_ids"][place] == row["answer_ids"][0] and row["tokens"][place].strip() == row["answer"]
            assert row["logprobs"][place] == row["answer_logprob"]
    assert 0 < sum(row["answer_rank"] <= 4 for row in rows) < len(rows)


def test_rows_in_small_packs_keep_the_same(finished, llama_folder, monkeypatch, tmp_path):
    """In the same order. Random models have no tokens as near as rounding; where some were, neither way would be
    wrong."""
    out = tmp_path / "rows"
    monkeypatch.setattr(memory, "free_bytes", lambda device: 8 << 20)
    assert run(tree_of(llama_folder), out, "--engine", "rows") == 0
    packed, rows = (pl.read_parquet(folder / FILE) for folder in (finished, out))
    exact = pl.col("answer_logprob", "logprobs")
    assert_frame_equal(packed.drop("answer_logprob", "logprobs"), rows.drop("answer_logprob", "logprobs"))
    assert_frame_equal(packed.select(exact), rows.select(exact), abs_tol=1e-5)


def test_rows_come_in_order_whatever_order_they_were_computed_in(llama_folder):
    """Prompts of one shape stand together in a pack."""
    group = plan_study(study_of(tree_of(llama_folder)))[0].groups[0]
    pairs = [(query, copy) for query in range(5) for copy in range(len(group.copies))]
    kept = pl.DataFrame(
        [(*pair, [7], [-0.5], -1.0, 3) for pair in pairs],
        schema={"query": pl.Int32(), "copy": pl.Int32(), **{name: TOP_TOKENS[name] for name in KEPT}}, orient="row",
    )  # fmt: skip
    tables = [
        top_rows(ScoredGroup(group, {}, each), top_schema([group]), str)
        for each in (kept, kept.sample(fraction=1, shuffle=True, seed=0))
    ]
    assert_frame_equal(*tables)
    assert tables[0]["query"].to_list()[:10] == [*range(5), *range(5)]


def test_a_resumed_run_keeps_the_same(finished, llama_folder, monkeypatch, tmp_path):
    study, original, left = study_of(tree_of(llama_folder)), LocalEngine.score_pack, [6]

    def stopped(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(LocalEngine, "score_pack", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, Options(tmp_path / "run"))
    assert not (tmp_path / "run" / FILE).exists() and list((tmp_path / "run" / "parts").glob("*.parquet"))
    monkeypatch.setattr(LocalEngine, "score_pack", original)
    run_study(study, Options(tmp_path / "run"))
    for name in (FILE, "outcomes.parquet"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_nothing_else_is_another_with_it(finished, llama_folder, tmp_path):
    plain = run_study(study_of(tree_of(llama_folder, outcomes=None)), Options(tmp_path / "plain"))
    assert not (plain / FILE).exists() and pb.open(plain).top_tokens.is_empty()
    for name in ("outcomes.parquet", "effects.parquet", "curves.parquet", "prompts.parquet", "summary.json"):
        assert (plain / name).read_bytes() == (finished / name).read_bytes(), name


@pytest.fixture(scope="module")
def sampled(llama_folder, tmp_path_factory) -> Path:
    """The run whose page has room for every second query."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown, "MOST_VALUES", 600)  # of 150 queries of cells with three metrics, conversion and 4 tokens
        study = study_of(tree_of(llama_folder))
        return run_study(study, Options(tmp_path_factory.mktemp("sampled") / "run"))


def test_of_many_values_tokens_are_kept_of_the_queries_that_the_page_shows(sampled, finished):
    table, whole = (pb.open(folder).top_tokens for folder in (sampled, finished))
    assert_frame_equal(table, whole.filter(pl.col("query") % 2 == 0))
    data, *_, tokens = block_of(sampled)
    queries = data["queries"]
    assert queries["step"] == 2 and all(each["query"] == [0, 2, 4] for each in queries["sets"])
    assert min(tokens["rank"]) >= 1


@pytest.mark.parametrize("which", ["finished", "sampled"])
def test_the_page_has_the_tables_tokens(request, which):
    folder = request.getfixturevalue(which)
    table = pb.open(folder).top_tokens
    data, *parts, tokens = block_of(folder)
    cells, queries = data["cells"], data["queries"]
    assert queries["tokens"] and len(parts) == len(queries["parts"])
    rows = {}
    for row in table.iter_rows(named=True):
        rows[tuple(row[key] for key in KEYS)] = row
    count, seen = tokens["count"], set()
    columns = (np.concatenate([part[name].astype(int) for part in parts]) for name in ("at", "of", "top"))
    for row, number, after in zip(*columns, strict=True):
        chosen = queries["sets"][number]
        name, layer, strength = words(cells["intervention"])[row], int(cells["layer"][row]), cells["strength"][row]
        shots = int(cells["shots"][row])
        task = words(cells["task"])[row]
        for k, query in enumerate(chosen["query"]):
            cell = task, query, name, layer, float(strength), shots
            clean = task, query, None, None, None, shots
            for key, entry in ((cell, int(after) + k), (clean, int(tokens["clean"][number]) + k)):
                own = rows[key]
                places = [int(place) for place in tokens["ids"][entry * count : (entry + 1) * count]]
                assert [tokens["texts"][place] for place in places] == own["tokens"]
                assert tokens["rank"][entry] == own["answer_rank"]
                assert (chosen["first"][k] in places) == (own["answer_rank"] <= count)
                assert abs(tokens["chance"][entry * count] / 1000 - 2.718281828 ** own["logprobs"][0]) < 6e-4
                seen.add(key)
    assert seen == set(rows)


def test_the_plan_counts_what_is_kept(finished, llama_folder, tmp_path, capsys):
    plan = json.loads((finished / "plan.json").read_text())
    (cost,) = [model["cost"] for model in plan["models"]]
    assert plan["shown_every"] == 1 and cost["top_tokens"] == len(pb.open(finished).top_tokens)
    assert cost["top_token_bytes"] == cost["top_tokens"] * (4 * 8 + 8)
    spec = write(tree_of(llama_folder), tmp_path / "spec.yaml")
    assert main(["plan", spec]) == 0
    assert "bytes of top tokens" in capsys.readouterr().out


def test_a_lost_file_takes_the_model(finished, llama_folder, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    for file in finished.iterdir():
        if file.is_file() and file.name != FILE:
            (out / file.name).write_bytes(file.read_bytes())
    assert run(tree_of(llama_folder), out) == 2
    assert FILE in one_error(capsys)


@pytest.mark.parametrize(
    ("outcomes", "what"),
    [
        ({"top_tokens": 0}, "outcomes.top_tokens: found 0"),
        ({"top_tokens": 51}, "outcomes.top_tokens: found 51"),
        ({"top_tokens": True}, "outcomes.top_tokens: found true"),
        ({"top_token": 5}, "outcomes.top_token: .*top_tokens"),
    ],
)
def test_what_is_no_number_of_tokens_is_refused(llama_folder, outcomes, what):
    with pytest.raises(SpecError, match=what):
        study_of(tree_of(llama_folder, outcomes=outcomes))


def test_it_is_the_whole_runs(llama_folder):
    with pytest.raises(SpecError, match="outcomes.top_tokens: cannot be swept"):
        pb.load(tree_of(llama_folder, outcomes={"top_tokens": {"sweep": [1, 2]}})).plan()


def test_a_spec_that_asks_for_nothing_is_the_one_of_before(llama_folder):
    plain = tiny_tree(llama_folder)
    digests = {study_of({**plain, **more}).digest for more in ({}, {"outcomes": None}, {"outcomes": {}})}
    assert len(digests) == 1 and "outcomes" not in study_of(plain).tree
    assert study_of(plain, {"outcomes.top_tokens": 5}).digest not in digests
