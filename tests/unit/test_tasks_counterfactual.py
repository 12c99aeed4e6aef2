"""A user's own counterfactual inputs: columns, spans, sources and foils, and what is refused by its line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from patchboard.errors import PatchboardError, SpecError, TaskError
from patchboard.spec.sections import TasksSection
from patchboard.tasks.base import NULL, Item
from patchboard.tasks.families.counterfactual import Counterfactual
from patchboard.tasks.resolve import build_family

ROW = {"base": "The {S: keys} fell", "answer": "down", "source": "A {S: kite} fell"}


def build(*files: Path, include_null: bool = False, **more: Any) -> Counterfactual:
    more |= {"files": [str(file) for file in files]} if files else {}
    section = TasksSection(family="counterfactual", include_null=include_null, **more)
    return build_family(section, embedded=False)  # pyright: ignore[reportReturnType]


def lines(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def words(item: Item) -> dict[str, str]:
    return {name: item.input[a:b] for name, (a, b) in item.spans.items()}


FULL = [
    {"base": "Here {IO: Mary} met {S1: John}; {S2: John} saw", "answer": "Mary", "foils": "John|Tom",
     "source": "Here {IO: Ann} met {S1: Tim}; {S2: Tim} saw", "source_answer": "Ann",
     "source_abc": "Here Al met Bo; Cy saw", "span_verb": "met"},
    {"base": "a {{x}} b", "answer": "é, \"q\"", "foils": "b", "source": "", "source_answer": "",
     "source_abc": "a c b", "span_verb": "x"},
]  # fmt: skip


def as_table(file: Path, separator: str) -> Path:
    with open(file, "w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, FULL[0], delimiter=separator)
        writer.writeheader()
        writer.writerows(FULL)
    return file


def test_every_kind_of_file_gives_the_same_items(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(FULL))
    files = [tmp_path / "t.json", lines(tmp_path / "t.jsonl", *FULL), as_table(tmp_path / "t.csv", ","),
             as_table(tmp_path / "t.tsv", "\t")]  # fmt: skip
    pools = [build(file).pool(0) for file in files]
    first, second = pools[0]
    assert all(pool == pools[0] for pool in pools)
    assert first.input == "Here Mary met John; John saw" and first.answers == {"counterfactual": "Mary"}
    assert words(first) == {"IO": "Mary", "S1": "John", "S2": "John", "verb": "met"}
    assert first.foils == {"counterfactual": ("John", "Tom")}
    assert {name: (s.input, dict(s.answers)) for name, s in first.sources.items()} == {
        "source": ("Here Ann met Tim; Tim saw", {"counterfactual": "Ann"}), "abc": ("Here Al met Bo; Cy saw", {}),
    }  # fmt: skip
    assert words(first.sources["source"]) == {"IO": "Ann", "S1": "Tim", "S2": "Tim"}
    assert (second.input, words(second), list(second.sources)) == ("a {x} b", {"verb": "x"}, ["abc"])
    family = build(*files[:1])
    assert family.spans(family.options) == ("IO", "S1", "S2", "verb")
    assert family.sources(family.options) == ("source", "abc")
    assert family.describe()["sources"] == {"source": 1, "abc": 2}


def test_sources_by_name_and_spans_of_sources_by_column(tmp_path):
    row = {"q": "x y", "right": ["z", "zz"], "wrong": ["w"], "cf": {"flip": "y {a: x}", "abc": "p q"},
           "cf_answer": {"flip": ["u", "v"]}, "cf_abc_span_a": "q", "span_a": "x"}  # fmt: skip
    columns = {"base": "q", "answer": "right", "foils": "wrong", "source": "cf"}
    (item,) = build(lines(tmp_path / "t.jsonl", row), columns=columns).pool(0)
    task = "counterfactual"
    assert item.right(task) == {"z", "zz"} and item.foils[task] == ("w",) and words(item) == {"a": "x"}
    assert item.sources["flip"].right(task) == {"u", "v"} and words(item.sources["flip"]) == {"a": "x"}
    assert words(item.sources["abc"]) == {"a": "q"} and not item.sources["abc"].answers


def test_several_tasks_share_inputs_and_their_sources(tmp_path):
    rows = [
        {"base": "a b", "task": "up", "answer": "A", "source": "c d", "source_answer": "C"},
        {"base": "{S: a} b", "task": "down", "answer": "1", "source": "c d", "source_answer": "2"},
        {"base": "e f", "task": "up", "answer": "E"},
        {"base": "a b", "task": "up", "answer": "X", "source": "other"},
    ]
    family = build(lines(tmp_path / "t.jsonl", *rows), include_null=True)
    assert family.tasks == ("up", "down", NULL)
    item, other = family.pool(0)
    assert {task: item.answers[task] for task in ("up", "down")} == {"up": "A", "down": "1"}
    assert item.answers[NULL] == "E" and other.answers[NULL] in ("A", "1") and words(item) == {"S": "a"}
    assert item.sources["source"].answers == {"up": "C", "down": "2"}
    assert family.describe()["tasks"]["up"] == {"inputs": 2, "repeated": 1, "contradicting": 1}
    only = build(lines(tmp_path / "t.jsonl", *rows), only=["down"])
    assert [item.answers for item in only.pool(0)] == [{"down": "1"}]
    rows[1]["source"] = "g h"
    with pytest.raises(TaskError, match="line 2 .* has another source 'source'"):
        build(lines(tmp_path / "u.jsonl", *rows)).pool(0)


def test_a_changed_file_is_read_anew(tmp_path):
    file = lines(tmp_path / "t.jsonl", ROW)
    assert build(file).pool(0)[0].answers == {"counterfactual": "down"}
    lines(file, ROW | {"answer": "upwards"})
    assert build(file).pool(0)[0].answers == {"counterfactual": "upwards"}
    assert build(file).data_files() == [file]


def test_a_local_data_set_gives_what_a_file_gives(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    lines(folder / "train.jsonl", *FULL)
    of_set = build(dataset={"name": str(folder)})
    assert of_set.pool(0) == build(folder / "train.jsonl").pool(0)
    assert [file.name for file in of_set.data_files()] == ["train.jsonl"]
    with pytest.raises(TaskError, match="has no column 'bsae'; did you mean 'base'") as caught:
        build(dataset={"name": str(folder), "base": "bsae"})
    assert caught.value.where == "tasks.dataset.base"


@pytest.mark.parametrize(
    ("row", "says"),
    [({"base": "The {S: keys fell"}, "base never closes the mark {S:"), ({"base": "a } b"}, "closes no mark"),
     ({"base": "{S: a} {S: b}"}, "marks S twice"), ({"source": "{S: }"}, "source marks nothing as S"),
     ({"span_T": "zz"}, "span_T 'zz' stands nowhere in 'The keys fell'"), ({"span_T": "l"}, "stands 2 times"),
     ({"span_S": "The"}, "span_S is also marked as S"), ({"span_last": "The"}, "is the name of a position"),
     ({"foils": ["up", "down"]}, "'down' as answer and as foil"), ({"foils": "up||"}, "empty foils"),
     ({"source_b_answer": "x"}, "has source_b_answer, but no source 'b'"), ({"task": NULL}, "second task named Null"),
     ({"source": {"all": "x"}}, "a source 'all', which is the name of a position"), ({"answer": []}, "empty list"),
     ({"source": {"a b": "x"}}, "a source 'a b', which is no name"), ({"source_source": "x"}, "'source' twice"),
     ({"source": True}, "has true as its source")],
)  # fmt: skip
def test_rows_that_are_no_cases_are_named_by_their_line(tmp_path, row, says):
    with pytest.raises(TaskError) as caught:
        build(lines(tmp_path / "bad.jsonl", ROW, ROW | row))
    assert caught.value.where == "tasks.files" and says in caught.value.what
    assert "line 2 of" in caught.value.what and "bad.jsonl" in caught.value.what and caught.value.remedy


def test_other_faults_of_files_and_fields(tmp_path):
    twice, pair = tmp_path / "twice.csv", tmp_path / "pair.json"
    twice.write_text("base,answer,source,source\na,b,c,d\n")
    pair.write_text('{"hot": "cold"}')
    lacking = lines(tmp_path / "t.jsonl", {"prompt": "a", "answer": "b"})
    for fields, where, says in (
        ({}, "tasks.files", "is missing"),
        ({"files": ["a"], "dataset": {"name": "b"}}, "tasks.files", "beside dataset"),
        ({"columns": {"base": "answer"}, "files": ["a"]}, "tasks.columns", "two of the columns are 'answer'"),
        ({"files": [str(twice)]}, "tasks.files", "has 2 columns 'source'"),
        ({"files": [str(pair)]}, "tasks.files", "key 'hot' of"),
        ({"files": [str(lacking)]}, "tasks.files", "has no base; name it by tasks.columns: {base: …} if it is one of"),
    ):
        with pytest.raises(PatchboardError) as caught:
            build(**fields)
        assert caught.value.where == where and says in caught.value.one_line(), says
        assert isinstance(caught.value, SpecError | TaskError)
