"""What every family's pool must hold to: seeds, matched answers, halves without a common input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchboard.errors import TaskError
from patchboard.plugins.checks.promise import kept
from patchboard.plugins.checks.task import FAMILY_PROMISES
from patchboard.spec.sections import TasksSection
from patchboard.tasks import grammar
from patchboard.tasks.base import FAMILIES, NULL, Item, draw, normal_form, split_pool
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sentences import REPEATED, Corpus, Sentence, shipped
from patchboard.tasks.sets import Halves

CONLLU_FORM = "She saw often a small cat under it".split()
CONLLU_TAGS = "PRON VERB ADV DET ADJ NOUN ADP PRON".split()


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """One of each registered family, and `pos` from each source that needs no other library."""
    folder = tmp_path_factory.mktemp("data")
    for task, suffix in (("plain", ""), ("loud", "!")):
        rows = [{"input": f"w{i}", "output": f"w{i}{suffix}"} for i in range(7 if suffix else 30)]
        (folder / f"{task}.json").write_text(json.dumps(rows))
    case = (
        '{"base": "The {S: w%d} is", "answer": "%d", "foils": "no", "source": "The {S: v%d} is", "source_answer": "%d"}'
    )
    (folder / "cases.jsonl").write_text("\n".join(case % (i, i, i, i + 1) for i in range(30)))
    blocks = []
    for i in range(9):
        words = enumerate(zip(CONLLU_FORM, CONLLU_TAGS, strict=True), 1)
        lines = [f"{n}\t{form}{i}\t_\t{upos}" + "\t_" * 6 for n, (form, upos) in words]
        blocks.append("\n".join(lines) + "\n\n")
    (folder / "small.conllu").write_text("".join(blocks))
    sections = {
        "bitwise": TasksSection(family="bitwise"),
        "bitwise sampled": TasksSection(family="bitwise", bits=7),
        "pos": TasksSection(family="pos", source="sentences"),
        "pos grammar": TasksSection(family="pos", source="grammar"),
        "pos treebank": TasksSection(family="pos", treebank=str(folder / "small.conllu")),
        "pairs": TasksSection(family="pairs", files=[str(folder / "*.json")]),
        "ioi": TasksSection(family="ioi"),
        "ioi of few sentences": TasksSection(family="ioi", templates=["[A] saw [B], so [B] called"], orders=["BABA"]),
        "greater_than": TasksSection(family="greater_than"),
        "mcqa": TasksSection(family="mcqa"),
        "mcqa of symbols": TasksSection(family="mcqa", labels="symbols", choices=4),
        "agreement": TasksSection(family="agreement"),
        "counterfactual": TasksSection(family="counterfactual", files=[str(folder / "cases.jsonl")]),
    }
    assert {section.family for section in sections.values()} == set(FAMILIES.names())
    return {name: build_family(section, embedded=False) for name, section in sections.items()}


def test_every_family_keeps_what_a_family_promises(families):
    for name, family in families.items():
        assert [found for found in kept(FAMILY_PROMISES, family) if found.problem] == [], name


def test_another_seed_draws_another_pool(families):
    for name, family in families.items():
        pools = [family.pool(seed) for seed in (3, 4)]
        assert pools[0] != pools[1], f"{name}: Null's answers at least are drawn"
        drawn = [tuple(item.answers[NULL] for item in pool) for pool in pools]
        assert drawn[0] != drawn[1], name


def test_every_item_has_its_answers_and_null_last(families):
    for name, family in families.items():
        assert family.tasks[-1] == NULL
        pool = family.pool(0)
        assert {task for item in pool for task in item.answers} == set(family.tasks)
        if family.describe()["family"] != "pairs":
            assert all(set(item.answers) == set(family.tasks) for item in pool), name


def test_halves_have_no_input_in_common(families):
    for name, family in families.items():
        pool = family.pool(1)
        for seed in range(5):
            fit, evaluate = split_pool(pool, seed)
            assert not {i.input for i in fit} & {i.input for i in evaluate}, name
            assert len(fit) + len(evaluate) == len(pool) and abs(len(fit) - len(evaluate)) <= 1


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.text(max_size=2))), st.integers(0, 1000))
def test_halves_of_any_pool(rows, seed):
    """Also of a pool that holds an input more than once; each item is in one half, in the pool's order."""
    pool = [Item(given, {"task": answer}) for given, answer in rows]
    fit, evaluate = split_pool(pool, seed)
    kept = {i.input for i in fit}
    assert not kept & {i.input for i in evaluate}
    assert fit == [i for i in pool if i.input in kept] and evaluate == [i for i in pool if i.input not in kept]
    assert len(kept) == len({given for given, _ in rows}) // 2


SPELLINGS = ("w1", " w1\t", "w\u200b1", "w 1", "w\u00a01\n", "W1", "\u00e9", "e\u0301", "\ufb01", "fi", "Ａ", "A", "x")
FORMS = ("w1", "w1", "w1", "w 1", "w 1", "W1", "é", "é", "fi", "fi", "A", "A", "x")


class Spelled:
    """A family whose pool holds inputs in several spellings, under two tasks."""

    tasks = ("up", "down", NULL)

    def __init__(self, spellings):
        self.spellings = spellings

    def pool(self, seed):
        return [Item(text, {self.tasks[i % 2]: f"{i % 2}", NULL: f"{i}"}) for i, text in enumerate(self.spellings)]

    def describe(self):
        return {"family": "spelled"}


def test_normal_forms():
    assert tuple(map(normal_form, SPELLINGS)) == FORMS
    assert normal_form("می\u200cخواهم") != normal_form("میخواهم"), "a joiner tells words apart"


@given(st.lists(st.sampled_from(SPELLINGS), min_size=8, max_size=40), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_inputs_of_one_form_are_one_input(spellings, seed):
    """In no two halves, in no prompt twice, counted; first spelling and answers, in the pool's order."""
    halves = Halves(Spelled(spellings), seed)  # pyright: ignore[reportArgumentType]
    forms = list(dict.fromkeys(map(normal_form, spellings)))
    kept = {normal_form(item.input): item for item in (*halves.fit, *halves.evaluate)}
    assert sorted(kept) == sorted(forms) and len(halves.fit) + len(halves.evaluate) == len(forms)
    again = len(spellings) - len(forms)
    assert halves.describe().get("merged_inputs", {"inputs": 0})["inputs"] == again
    for form, item in kept.items():
        places = [i for i, text in enumerate(spellings) if normal_form(text) == form]
        assert item.input == spellings[places[0]] and item.answers[NULL] == f"{places[0]}"
        assert set(item.answers) - {NULL} == {("up", "down")[i % 2] for i in places}
    for role in ("evaluate", "fit", "decodability"):
        half = halves.fit if role == "fit" else halves.evaluate
        for task in ("up", "down"):
            usable = sum(task in item.answers for item in half)
            if usable > 1:
                for rows in halves.rows(role, task, usable - 1, 5):
                    assert len({normal_form(row.input) for row in rows}) == usable


def test_files_of_pairs_in_other_spellings(tmp_path):
    """Two files are one pool; Null's answer is another input's, and a contradiction is counted."""
    files = {"a": [("w1", "x"), ("w1 ", "y"), ("é", "z")], "b": [("w1\u00a0", "p"), ("e\u0301", "q"), ("c", "r")]}
    for name, rows in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps([{"input": i, "output": o} for i, o in rows]))
    family = build_family(TasksSection(family="pairs", files=[str(tmp_path)]), embedded=False)
    for seed in range(20):
        halves = Halves(family, seed)
        found = {item.input: dict(item.answers) for item in (*halves.fit, *halves.evaluate)}
        assert found["w1"].pop(NULL) in "zqr" and found["é"].pop(NULL) in "xypr" and found["c"].pop(NULL) in "xyzpq"
        assert found == {"w1": {"a": "x", "b": "p"}, "é": {"a": "z", "b": "q"}, "c": {"b": "r"}}
    assert halves.describe()["merged_inputs"] == {"inputs": 3, "contradicting": 1}


def test_a_corpus_keeps_a_sentence_once_in_whatever_spacing():
    first, *_ = shipped()
    other = Sentence(first.text.replace(" ", "\u00a0 "), first.words)
    corpus = Corpus.of([first, other])
    assert corpus.sentences == (first,) and corpus.excluded == {REPEATED: 1}


def test_draw_gives_different_rows_of_the_task_only_and_refuses_too_few(families):
    pool = families["pairs"].pool(0)
    rng = np.random.default_rng(0)
    assert sorted(item.input for item in draw(pool, "loud", 7, rng, "here")) == [f"w{i}" for i in range(7)]
    with pytest.raises(TaskError, match="here: task loud has 7 rows .* needs 8"):
        draw(pool, "loud", 8, rng, "here")


def test_answers_of_the_grammar_are_the_first_words_of_their_lexicon(families):
    for item in families["pos grammar"].pool(2)[:500]:
        words = item.input.split()
        for task, known in grammar.LEXICON.items():
            assert item.answers[task] == [word for word in words if word in known][0]
        assert item.answers[NULL] in words


def test_null_of_pos_reaches_every_place_in_the_sentence(families):
    family = families["pos treebank"]
    drawn = {family.pool(seed)[0].answers[NULL] for seed in range(80)}
    assert drawn == set(family.pool(0)[0].input.split())


def test_bitwise_answers_digit_by_digit(families):
    table = {"AND": "0001", "NAND": "1110", "OR": "0111", "NOR": "1000", "XOR": "0110", "XNOR": "1001"}
    for item in [*families["bitwise"].pool(0), *families["bitwise sampled"].pool(0)]:
        a, b = item.input.split()
        for task, truth in table.items():
            literal = "".join(truth[2 * int(x) + int(y)] for x, y in zip(a, b, strict=True))
            assert item.answers[task] == literal, (task, item.input)
