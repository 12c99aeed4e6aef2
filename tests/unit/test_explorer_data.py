"""What the page's explorer holds, read as a browser does, against the run's tables; and which tokens are marked."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import patchboard as pb
from patchboard.plan import shown
from patchboard.plan.suffix import positions_of
from patchboard.report.explorer import explorer_block
from patchboard.report.explorer.packed import Packed, rounded
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
    doubled = {"op": "scale", "strength": 2, "layers": [1, 2]}
    tree = tiny_tree(
        llama_folder,
        interventions={"p": section, "doubled": doubled},
        prompts={"shots": {"sweep": [0, 1]}, "queries": 5},
    )
    assert run({**tree, "metrics": ["logprob", "accuracy"]}, out) == 0
    return out


def unpacked(text: str) -> list[dict]:
    """As explorer.js reads it: the run, then its parts."""
    opened = [zlib.decompress(base64.b64decode(part)) for part in text.split()]
    return [piece(tree, planes) for tree, planes in zip(opened[::2], opened[1::2], strict=True)]


def piece(tree: bytes, planes: bytes) -> dict:
    block = np.frombuffer(np.frombuffer(planes, np.uint8).reshape(4, -1).T.tobytes(), "<f4")

    def resolved(value):
        if set(value) != {"$"}:
            return value
        first, count, *times = value["$"]
        return block[first : first + count].repeat(times[0] if times else 1)

    return json.loads(tree, object_hook=resolved)


def block_of(folder: Path) -> list[dict]:
    explorer = explorer_block(read_run(folder))
    assert explorer is not None
    return unpacked(explorer.data[0])


def words(column: dict) -> list:
    return [column["names"][int(code)] for code in column["codes"]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(width=32, allow_nan=False), max_size=9), max_size=5), st.lists(st.text(), max_size=9)
)
def test_what_is_packed_is_read_back(columns, texts):
    packed = Packed()
    tree = {"n": [packed.numbers(column) for column in columns], "t": packed.words(pl.Series(texts, dtype=pl.String))}
    (read,) = unpacked(" ".join(packed.text(tree)))
    assert [list(column) for column in read["n"]] == columns and words(read["t"]) == texts


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(0, 99))
def test_rounded_values_are_near(value, count):
    """Within half of the last of 17 bits; small whole numbers, infinities and what is missing stay as they are."""
    largest = float(np.finfo(np.float32).max)
    (near,) = rounded([value])
    assert near == pytest.approx(value, rel=2**-17, abs=2.0**-142) or abs(value) > largest * (1 - 2**-17)
    np.testing.assert_array_equal(
        rounded([count, -count, np.inf, -np.inf, np.nan]), [count, -count, np.inf, -np.inf, np.nan]
    )


def test_a_column_of_one_value_is_told_once():
    packed = Packed()
    columns = [[3.0] * 500, [float("nan")] * 400, [1.0, 2.0], [5.0], []]
    tree = [packed.numbers(column) for column in columns]
    assert sum(map(len, packed._parts)) == 1 + 1 + 2 + 1 + 0
    (read,) = unpacked(" ".join(packed.text({"n": tree})))
    for column, expected in zip(read["n"], columns, strict=True):
        np.testing.assert_array_equal(column, expected)


def test_cells_are_the_tables_rows(folder):
    done = pb.open(folder)
    read, *_ = block_of(folder)
    cells = pl.DataFrame(
        {name: words(column) if isinstance(column, dict) else column for name, column in read["cells"].items()}
    )
    pooled = cells.filter(pl.col("task") == "")
    assert len(pooled) == len(done.curves)
    for name in ("effect", "ci_low", "ci_high", "n"):
        np.testing.assert_allclose(pooled[name], done.curves[name], rtol=1e-6)
    of_tasks = cells.filter(pl.col("task") != "", pl.col("control") == "")
    own = done.effects.filter(pl.col("control") == "")
    same = own.sort("task", "intervention", "interventions.p.strength", "shots", "layer", "metric")
    found = of_tasks.sort("task", "intervention", "strength", "shots", "layer", "metric")
    for name in ("clean", "patched", "effect", "ci_low", "ci_high", "n"):
        np.testing.assert_allclose(found[name], same[name], rtol=1e-6)
    assert pooled["layers"].to_list() == done.curves["layers"].to_list()
    of_p = cells.filter(pl.col("intervention") == "p")
    assert set(of_p["setting"]) == {
        f"shots = {shots}, strength = {strength}" for shots in (0, 1) for strength in ("1.0", "2.0")
    }
    assert set(cells["setting"]) == {*of_p["setting"], "shots = 0", "shots = 1"}
    assert read["metric"] == "logprob" and read["tasks"] == ["AND", "OR", "XOR"]


def setting_of(row: Mapping[str, Any]) -> str:
    swept = f", strength = {row['strength']}" if row["intervention"] == "p" else ""
    return f"shots = {row['shots']}{swept}"


def test_queries_are_the_outcomes(folder):
    """Every query of every own cell of a single task, with its prompt."""
    done = pb.open(folder)
    read, *parts = block_of(folder)
    cells, told, found = read["cells"], read["queries"], {}
    assert sorted(told["parts"]) == ["doubled", "p"] and told["step"] == 1
    for name, part in zip(told["parts"], parts, strict=True):
        at = 0
        for row, number, before in zip(*(part[column].astype(int) for column in ("at", "of", "before")), strict=True):
            chosen = told["sets"][number]
            key = [words(cells[column])[row] for column in ("intervention", "task", "metric", "setting")]
            assert key[0] == name
            for k, query in enumerate(chosen["query"]):
                text = (chosen["text"][k], chosen["answer"][k])
                values = told["clean"][before + k], part["patched"][at]
                found[(*key, int(cells["layer"][row]), query)] = (*values, *text)
                at += 1
        assert at == len(part["patched"])
    assert len(told["clean"]) <= 3 * 2 * 2 * 5  # of each task, number of shots and metric, not of each cell
    own = done.outcomes.filter(pl.col("control") == "")
    assert len(found) == len(own)
    prompts = done.prompts.filter(pl.col("role") == "evaluate")
    texts = {
        (row["task"], row["shots"], row["query"]): (row["text"], row["answer"]) for row in prompts.iter_rows(named=True)
    }
    for row in own.iter_rows(named=True):
        key = row["intervention"], row["task"], row["metric"], setting_of(row)
        clean, patched, *text = found[*key, row["layer"], row["query"]]
        assert (clean, patched) == pytest.approx((row["clean"], row["patched"]), rel=2**-17)
        assert tuple(text) == texts[row["task"], row["shots"], row["query"]]


def test_of_many_values_fewer_queries_are_shown(folder, monkeypatch):
    monkeypatch.setattr(shown, "MOST_VALUES", 150)  # of 360
    read, *parts = block_of(folder)
    told = read["queries"]
    assert told["step"] == 3 and all(chosen["query"] == [0, 3] and chosen["of"] == 5 for chosen in told["sets"])
    assert all(len(part["patched"]) == 2 * len(part["at"]) for part in parts)


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
