"""A user's own files of pairs: what they give, what is refused, and what is counted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.errors import SpecError, TaskError
from patchboard.spec.sections import TasksSection
from patchboard.tasks.base import NULL
from patchboard.tasks.families.pairs import Pairs
from patchboard.tasks.resolve import build_family

ICL = Path(__file__).parents[3] / "shared" / "data" / "icl_pairs"


def write(file: Path, pairs: list[tuple[str, str]]) -> str:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([{"input": a, "output": b} for a, b in pairs]), encoding="utf-8")
    return str(file)


def build(*files: str, include_null: bool = False, **more) -> Pairs:
    more |= {"files": list(files)} if files else {}
    section = TasksSection(family="pairs", include_null=include_null, **more)
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


@settings(deadline=None)
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
     ('[{"input": "a", "output": true}]', "row 0 .* has true as its output"),
     ('[{"input": null, "output": "a"}]', "row 0 .* has null as its input"),
     ('[{"input": "a", "output": {"b": 1}}]', "row 0 .* has an object as its output"),
     ('[{"input": "a", "output": NaN}]', "is not JSON .*NaN"),
     ('[{"input": "a", "input": "b", "output": "c"}]', "row 0 .* gives input 2 times"),
     ('[{"question": "a", "answer": "b"}]', "row 0 .* has no input; .*tasks.columns: {input: ….* question, answer"),
     ('[{"input": "a", "output": "\\ud800"}]', "row 0 .* surrogate"),
     ('{"input": "a", "output": "b"}\n{"input": "c", "output": "d"}', "is not JSON .*; name it .jsonl"),
     ('{"data": [{"input": "a", "output": "b"}]}', "key 'data' .* further objects"), ('"a"', "is no list"),
     ('{"hot": "cold", "up": false}', "key 'up' .* has false as its output"), ('{}', "is empty"),
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
    other, text = tmp_path / "b" / "t.csv", tmp_path / "t.txt"
    other.write_text("input,output\nx,y\n")
    text.write_text("[]")
    for files, says in (
        ([one, two], "both be task 't'"),
        ([null], "second task named Null"),
        ([str(tmp_path / "*.jsonl")], "matches no file"),
        ([one, str(other)], "both be task 't'"),
        ([str(tmp_path / "b")], "both be task 't'"),
        ([str(text)], "no file of a known kind"),
        ([str(tmp_path / "*.txt")], "matches no file"),
        ([str(tmp_path / "none")], "holds no .json, .jsonl, .csv or .tsv file"),
        ([str(tmp_path / "t.json")], "does not exist"),
    ):
        with pytest.raises(TaskError, match=says):
            build(*files)


def test_a_byte_order_mark_and_further_keys_are_let_be(tmp_path):
    file = tmp_path / "t.json"
    file.write_bytes(b'\xef\xbb\xbf[{"input": "a", "output": "b", "comment": 3}]')
    assert [item.answers for item in build(str(file)).pool(0)] == [{"t": "b"}]


def answers_of(family: Pairs) -> dict[str, dict[str, str]]:
    return {item.input: dict(item.answers) for item in family.pool(0)}


SAME = {
    "t.json": '[{"q": "hot", "a": "cold"}, {"q": "a, \\"b\\"", "a": "\\u00e9"}, {"q": 2, "a": 1.50}]',
    "t.jsonl": '{"q": "hot", "a": "cold"}\r\n\n{"q": "a, \\"b\\"", "a": "é", "n": null}\n{"q": 2, "a": 1.50}',
    "t.csv": 'n,q, a\r\n1,hot,cold\r\n\r\n,"a, ""b""",é\r\n,2,1.50\r\n',
    "t.TSV": 'a\tq\ncold\thot\né\t"a, ""b"""\n1.50\t2',
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_every_kind_of_file_gives_the_same_pairs(tmp_path, name, encoding):
    (tmp_path / name).write_bytes(SAME[name].encode(encoding))
    family = build(str(tmp_path / name), columns={"input": "q", "output": "a"})
    assert answers_of(family) == {"hot": {"t": "cold"}, 'a, "b"': {"t": "é"}, "2": {"t": "1.50"}}
    assert build(str(tmp_path), columns={"input": "q", "output": "a"}).tasks == ("t",)
    assert family.data_files() == [tmp_path / name]


def test_an_object_of_inputs_and_outputs_counts_its_repeated_keys(tmp_path):
    file = tmp_path / "t.json"
    file.write_text('{"high": "low", "two": 2, "big": 1e3, "high": "deep", "two": "2", "input": "x"}')
    family = build(str(file))
    assert answers_of(family) == {
        "high": {"t": "low"}, "two": {"t": "2"}, "big": {"t": "1e3"}, "input": {"t": "x"},
    }  # fmt: skip
    facts = family.describe()["files"]["t"]
    assert (facts["inputs"], facts["repeated"], facts["contradicting"]) == (4, 2, 1)


@pytest.mark.parametrize("separator", [",", "\t"])
@given(rows=st.lists(st.tuples(*[st.text('a" ,\t\n;é', min_size=1).filter(str.strip)] * 2), min_size=1))
def test_tables_hold_any_text(tmp_path_factory, separator, rows):
    file = tmp_path_factory.mktemp("tables") / {",": "t.csv", "\t": "t.tsv"}[separator]
    with open(file, "w", newline="", encoding="utf-8") as opened:
        csv.writer(opened, delimiter=separator).writerows([("input", "output"), *rows])
    assert answers_of(build(str(file))) == {given: {"t": output} for given, output in reversed(rows)}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("t.csv", "input,output\na,b\na,b,c\n", "line 3 .* has 3 fields, the header has 2"),
     ("t.csv", 'input,output\n"a\nb",c\nd\n', "line 4 .* has 1 fields"),
     ("t.csv", "input,output\na,\n", "line 2 .* has an empty output"),
     ("t.csv", "hot,cold\nup,down\n", "line 1 .* no column 'input' but 'hot', 'cold'; begin with a header"),
     ("t.csv", "input;output\na;b\n", "apart by semicolons: save it with commas"),
     ("t.tsv", "input,output\na,b\n", "apart by commas: save it with tabs"),
     ("t.csv", "input,output,input\na,b,c\n", "2 columns 'input'"),
     ("t.csv", 'input,output\na,"b\n', "line 2 .* no line of a table"), ("t.csv", "input,output\n", "is empty"),
     ("t.csv", "", "is empty"), ("t.csv", b"input,output\na,\xe9\n", "line 2 .* is not UTF-8"),
     ("t.jsonl", '{"input": "a", "output": "b"}\n[1]', "line 2 .* is a list"),
     ("t.jsonl", '{"input": "a", "output": "b"}\n\n{"input": ', "line 3 .* is not JSON"),
     ("t.jsonl", '{"input": "a", "output": "b"}\n{"input": "a", "output": null}', "line 2 .* has null"),
     ("t.jsonl", '[\n{"input": "a", "output": "b"}]', "line 1 .*; name it .json"), ("t.jsonl", "\n", "is empty")],
)  # fmt: skip
def test_lines_that_are_no_pairs_are_named(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TaskError, match=says) as caught:
        build(str(tmp_path / name))
    assert caught.value.where == "tasks.files" and name in caught.value.what


HUB_ROWS = {
    "question": ["hot", "up", "hot", "4"],
    "answer": ["cold", "down", "heat", "four"],
    "number": [1, 2, 3, 4],
    "part": [0.1, 0.25, 1.0, 4.0],
    "label": [0, 1, 0, -1],
    "kind": ["opposite/a", "opposite/a", "noun", "noun"],
    "yes": [True, False, True, False],
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> str:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("hub") / "made"
    folder.mkdir()
    features = datasets.Features(
        {name: datasets.Value({str: "string", int: "int64", bool: "bool"}.get(type(values[0]), "float32"))
         for name, values in HUB_ROWS.items()} | {"label": datasets.ClassLabel(names=["low", "high"])}
    )  # fmt: skip
    datasets.Dataset.from_dict(HUB_ROWS, features=features).to_parquet(str(folder / "train.parquet"))
    return str(folder)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_columns_of_a_data_set(hub, cached):
    columns = {"name": hub, "input": "question", "output": "answer"}
    one = build(dataset=columns)
    assert one.tasks == ("made",)
    assert answers_of(one) == {"hot": {"made": "cold"}, "up": {"made": "down"}, "4": {"made": "four"}}
    assert one.describe()["tasks"]["made"] == {"inputs": 3, "repeated": 1, "contradicting": 1}
    assert [file.name for file in one.data_files()] == ["train.parquet"]
    two = build(dataset=columns | {"task": "kind"}, only=["noun"])
    assert answers_of(two) == {"hot": {"noun": "heat"}, "4": {"noun": "four"}}
    assert build(dataset=columns | {"task": "kind"}).tasks == ("opposite_a", "noun")
    numbers = build(dataset={"name": hub, "input": "part", "output": "number"})
    assert [(item.input, item.answers["made"]) for item in numbers.pool(0)] == [
        ("0.1", "1"), ("0.25", "2"), ("1.0", "3"), ("4.0", "4"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "where", "says"),
    [({"input": "questions", "output": "answer"}, "tasks.dataset.input", "did you mean 'question'?"),
     ({"input": "question", "output": "yes"}, "tasks.dataset", "row 0 .* has true"),
     ({"input": "question", "output": "label"}, "tasks.dataset", "row 3 .* has null"),
     ({"input": "question", "output": "answer", "task": "yes"}, "tasks.dataset", "row 0 .* has true as its task")],
)  # fmt: skip
def test_columns_that_are_no_pairs(hub, cached, columns, where, says):
    with pytest.raises(TaskError, match=says) as caught:
        build(dataset={"name": hub, **columns}).pool(0)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("options", "where"),
    [({"files": ["a.json"], "dataset": {"name": "x"}}, "tasks.files"),
     ({"dataset": {"name": "x"}, "columns": {"input": "q"}}, "tasks.columns"),
     ({"files": ["a.json"], "columns": {"input": "output"}}, "tasks.columns"),
     ({"dataset": {"name": "x", "input": "a", "output": "a"}}, "tasks.dataset")],
)  # fmt: skip
def test_options_that_cannot_be_meant(options, where):
    with pytest.raises(SpecError) as caught:
        build(**options)
    assert caught.value.where == where


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
