"""A user's own files of pairs: what they give, what is refused, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interventions.errors import TaskError
from interventions.spec.sections import TasksSection
from tasks.base import NULL
from tasks.pairs import Pairs
from tasks.resolve import build_family

ICL = Path(__file__).parents[3] / "shared" / "data" / "icl_pairs"


def write(file: Path, pairs: list[tuple[str, str]]) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([{"input": a, "output": b} for a, b in pairs]), encoding="utf-8")
    return str(file)


def build(*files: str, include_null: bool = False, **more) -> Pairs:
    section = TasksSection(family="pairs", files=list(files), include_null=include_null, **more)
    return build_family(section, embedded=False)  # pyright: ignore[reportReturnType]


def test_an_input_of_several_files_is_one_item(tmp_path):
    up = write(tmp_path / "upper.json", [("a", "A"), ("b", "B"), ("é", "É")])
    twice = write(tmp_path / "twice.json", [("b", "bb"), ("c", "cc")])
    family = build(up, twice)
    assert family.tasks == ("upper", "twice")
    assert {item.input: item.answers for item in family.pool(0)} == {
        "a": {"upper": "A"}, "b": {"upper": "B", "twice": "bb"}, "é": {"upper": "É"}, "c": {"twice": "cc"},
    }  # fmt: skip
    assert [item.input for item in build(up, twice, only=["TWICE"]).pool(0)] == ["b", "c"]


def test_files_folders_and_globs_come_in_the_order_given_and_once(tmp_path):
    for name in ("z", "a", "m"):
        write(tmp_path / "d" / f"{name}.json", [("x", name)])
    (tmp_path / "d" / "LICENSE.txt").write_text("not pairs")
    folder = tmp_path / "d"
    assert build(str(folder)).tasks == ("a", "m", "z")
    assert build(str(folder / "[mz].json"), str(folder / "a.json"), str(folder)).tasks == ("m", "z", "a")
    assert build(str(tmp_path / "**" / "m.json")).tasks == ("m",)


def test_a_second_answer_is_counted_and_the_first_kept(tmp_path):
    rows = [("hot", "cold"), ("hot", "chilly"), ("hot", "cold"), ("up", "down")]
    family = build(write(tmp_path / "t.json", rows))
    assert {item.input: item.answers["t"] for item in family.pool(0)} == {"hot": "cold", "up": "down"}
    facts = family.describe()["files"]["t"]
    assert (facts["inputs"], facts["repeated"], facts["contradicting"]) == (2, 2, 1)


ROWS = st.tuples(st.sampled_from("abcdef"), st.text("xyz", min_size=1, max_size=2))


@given(st.lists(ROWS, min_size=1), st.integers(0, 99))
def test_null_answers_with_the_output_of_another_row(tmp_path_factory, pairs, seed):
    folder = tmp_path_factory.mktemp("pairs")
    first, second = pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]
    files = [write(folder / f"{i}.json", rows) for i, rows in enumerate((first, second)) if rows]
    kept: list[tuple[str, str]] = []
    for rows in (first, second):
        kept += dict(reversed(rows)).items()  # the first answer of a file counts
    pool = build(*files, include_null=True).pool(seed)
    for item in pool:
        others = {output for given, output in kept if given != item.input}
        assert item.answers[NULL] in others if others else NULL not in item.answers


def test_null_covers_the_rows_of_all_files(tmp_path):
    files = [write(tmp_path / f"{n}.json", [(f"{n}{i}", f"{n}{i}") for i in range(5)]) for n in "ab"]
    family = build(*files, include_null=True)
    drawn = {item.answers[NULL] for seed in range(40) for item in family.pool(seed) if item.input == "a0"}
    assert drawn == {f"{n}{i}" for n in "ab" for i in range(5)} - {"a0"}


@pytest.mark.parametrize(
    ("content", "says"),
    [('{"input": "a", "output": "b"}', "is no list"), ("[1]", "row 0"), ("[]", "empty list"), ("[{", "is not JSON"),
     ('[{"input": "a", "output": "b"}, {"input": "a"}]', "row 1 .* has no output"),
     ('[{"input": "a", "output": 3}]', "row 0 .* not text"),
     ('[{"input": " ", "output": "b"}]', "row 0 .* empty input")],
)  # fmt: skip
def test_files_that_are_not_pairs_are_named(tmp_path, content, says):
    file = tmp_path / "bad.json"
    file.write_text(content)
    with pytest.raises(TaskError, match=says) as caught:
        build(str(file))
    assert caught.value.where == "tasks.files" and "bad.json" in caught.value.what


def test_file_lists_that_cannot_be_meant(tmp_path):
    one, two = write(tmp_path / "a" / "t.json", [("x", "y")]), write(tmp_path / "b" / "t.json", [("x", "y")])
    null = write(tmp_path / "Null.json", [("x", "y")])
    (tmp_path / "none").mkdir()
    for files, says in (
        ([one, two], "both be task 't'"),
        ([null], "second task named Null"),
        ([str(tmp_path / "*.jsonl")], "matches no file"),
        ([str(tmp_path / "none")], "holds no .json file"),
        ([str(tmp_path / "t.json")], "does not exist"),
    ):
        with pytest.raises(TaskError, match=says):
            build(*files)


def test_a_byte_order_mark_and_further_keys_are_let_be(tmp_path):
    file = tmp_path / "t.json"
    file.write_bytes(b'\xef\xbb\xbf[{"input": "a", "output": "b", "comment": 3}]')
    assert [item.answers for item in build(str(file)).pool(0)] == [{"t": "b"}]


def test_released_pairs():
    if not ICL.exists():
        pytest.skip("no ../shared/data/icl_pairs beside the project")
    family = build(str(ICL))
    assert family.tasks == ("antonym", "choose_first_of_3", "country-capital", "present-past", "singular-plural")
    read = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in ICL.glob("*.json")}
    answers = {(task, item.input): answer for item in family.pool(0) for task, answer in item.answers.items()}
    for task, rows in read.items():
        for row in reversed(rows):
            answers[task, row["input"]] = answers[task, row["input"]], row["output"]
    assert all(len(a) == 2 for a in answers.values()), "no answer without a row"
