"""What the page's explorer holds, read as a browser does, against the run's tables; and which tokens are marked."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import patchboard as pb
from patchboard.plan import shown
from patchboard.plan.suffix import positions_of
from patchboard.report.explorer import explorer_block
from patchboard.report.explorer.packed import Packed
from patchboard.report.explorer.prompts import edited_tokens, marked_characters
from patchboard.report.run_files import read_run
from patchboard.store.prompts import prompt_tables
from tests.contract.tiny import run, tiny_tree


@pytest.fixture(scope="module")
def folder(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("explored") / "run"
    vector = {"mean": "same_task", "shots": 1, "prompts": 4}
    section = {
        "op": "patch",
        "vector": vector,
        "layers": [1, 2],
        "strength": {"sweep": [1, 2]},
        "position": ["query", -1],
    }
    tree = tiny_tree(llama_folder, interventions={"p": section}, prompts={"shots": {"sweep": [0, 1]}, "queries": 5})
    assert run({**tree, "metrics": ["logprob", "accuracy"]}, out) == 0
    return out


def unpacked(text: str) -> dict:
    """As explorer.js reads it."""
    tree, planes = (zlib.decompress(base64.b64decode(part)) for part in text.split())
    block = np.frombuffer(np.frombuffer(planes, np.uint8).reshape(4, -1).T.tobytes(), "<f4")

    def resolved(value):
        return block[value["$"][0] : sum(value["$"])] if set(value) == {"$"} else value

    return json.loads(tree, object_hook=resolved)


def words(column: dict) -> list:
    return [column["names"][int(code)] for code in column["codes"]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=9), max_size=5), st.lists(st.text(), max_size=9)
)
def test_what_is_packed_is_read_back(columns, texts):
    packed = Packed()
    tree = {"n": [packed.numbers(column) for column in columns], "t": packed.words(pl.Series(texts, dtype=pl.String))}
    read = unpacked(" ".join(packed.text(tree)))
    assert [list(column) for column in read["n"]] == columns and words(read["t"]) == texts


def test_cells_are_the_tables_rows(folder):
    done = pb.open(folder)
    read = unpacked(explorer_block(read_run(folder)).data[0])
    cells = pl.DataFrame(
        {name: words(column) if isinstance(column, dict) else column for name, column in read["cells"].items()}
    )
    pooled = cells.filter(pl.col("task") == "")
    assert len(pooled) == len(done.curves)
    for name in ("effect", "ci_low", "ci_high", "n"):
        np.testing.assert_allclose(pooled[name], done.curves[name], rtol=1e-6)
    assert pooled["layers"].to_list() == done.curves["layers"].to_list()
    assert set(cells["setting"]) == {
        f"shots = {shots}, strength = {strength}" for shots in (0, 1) for strength in ("1.0", "2.0")
    }
    assert read["metric"] == "logprob" and read["tasks"] == ["AND", "OR", "XOR"]


def test_queries_are_the_outcomes(folder):
    """Every query of every own cell of a single task, with its prompt."""
    done = pb.open(folder)
    read = unpacked(explorer_block(read_run(folder)).data[0])
    cells, queries, at = read["cells"], read["queries"], 0
    found = {}
    places = (queries[name].astype(int) for name in ("at", "of", "before"))
    for row, number, before in zip(*places, strict=True):
        chosen = queries["sets"][number]
        key = [words(cells[name])[row] for name in ("task", "metric", "setting")]
        for k, query in enumerate(chosen["query"]):
            text = (chosen["text"][k], chosen["answer"][k])
            values = queries["clean"][before + k], queries["patched"][at]
            found[(*key, int(cells["layer"][row]), query)] = (*values, *text)
            at += 1
    assert at == len(queries["patched"]) and queries["step"] == 1
    assert len(queries["clean"]) <= 3 * 2 * 2 * 5  # of each task, number of shots and metric, not of each cell
    own = done.outcomes.filter(pl.col("control") == "")
    assert len(found) == len(own)
    prompts = done.prompts.filter(pl.col("role") == "evaluate")
    texts = {
        (row["task"], row["shots"], row["query"]): (row["text"], row["answer"]) for row in prompts.iter_rows(named=True)
    }
    for row in own.iter_rows(named=True):
        setting = f"shots = {row['shots']}, strength = {row['strength']}"
        clean, patched, *text = found[row["task"], row["metric"], setting, row["layer"], row["query"]]
        assert (clean, patched) == pytest.approx((row["clean"], row["patched"]), rel=1e-6)
        assert tuple(text) == texts[row["task"], row["shots"], row["query"]]


def test_of_many_values_fewer_queries_are_shown(folder, monkeypatch):
    monkeypatch.setattr(shown, "MOST_VALUES", 100)  # of 240
    queries = unpacked(explorer_block(read_run(folder)).data[0])["queries"]
    assert queries["step"] == 3 and all(chosen["query"] == [0, 3] and chosen["of"] == 5 for chosen in queries["sets"])
    assert len(queries["patched"]) == 2 * len(queries["at"])


@pytest.mark.parametrize("position", ["last", "query", "query.first", ["query", -1], "all", "demo_outputs", [0, 2], -1])
def test_marked_tokens_are_those_that_the_plan_edits(folder, position):
    plans = pb.open(folder).model_plans
    prompts = [prompt for plan in plans for group in plan.groups for prompt in group.prompts]
    rows = [row for table in prompt_tables(plans) for row in table.iter_rows(named=True) if row["role"] == "evaluate"]
    label = ",".join(map(str, position)) if isinstance(position, list) else str(position)
    for prompt, row in zip(prompts, rows, strict=True):
        assert edited_tokens(label, row) == list(positions_of(prompt, json.dumps(position), len(prompt.token_ids)))


def test_marks_are_the_tokens_own_characters(folder):
    """The query's words and the arrow before the answer, whatever stands in front."""
    rows = pb.open(folder).prompts.filter(pl.col("role") == "evaluate")
    for row in rows.iter_rows(named=True):
        marked = "".join(row["text"][a:b] for a, b in marked_characters("query,-1", row))
        assert marked == row["text"].splitlines()[-1]
    assert marked_characters("last", {**rows.row(0, named=True), "starts": None}) == []
