"""What every family's pool must hold to: seeds, matched answers, halves without a common input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interventions.errors import TaskError
from interventions.spec.sections import TasksSection
from tasks import grammar
from tasks.base import FAMILIES, NULL, Item, draw, split_pool
from tasks.resolve import build_family

CONLLU_FORM = "She saw often a small cat under it".split()
CONLLU_TAGS = "PRON VERB ADV DET ADJ NOUN ADP PRON".split()


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """One of each registered family, and `pos` from each source that needs no other library."""
    folder = tmp_path_factory.mktemp("data")
    for task, suffix in (("plain", ""), ("loud", "!")):
        rows = [{"input": f"w{i}", "output": f"w{i}{suffix}"} for i in range(7 if suffix else 30)]
        (folder / f"{task}.json").write_text(json.dumps(rows))
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
        "pairs": TasksSection(family="pairs", files=[str(folder)]),
    }
    assert {section.family for section in sections.values()} == set(FAMILIES.names())
    return {name: build_family(section, embedded=False) for name, section in sections.items()}


def test_a_pool_is_the_same_for_a_seed_and_another_for_another(families):
    for name, family in families.items():
        assert family.pool(3) == family.pool(3), name
        assert family.pool(3) != family.pool(4), f"{name}: Null's answers at least are drawn"
        drawn = [tuple(item.answers[NULL] for item in family.pool(seed)) for seed in (3, 4)]
        assert drawn[0] != drawn[1], name


def test_every_item_has_its_answers_and_null_last(families):
    for name, family in families.items():
        assert family.tasks[-1] == NULL
        pool = family.pool(0)
        assert len({item.input for item in pool}) == len(pool), f"{name} repeats an input"
        assert {task for item in pool for task in item.answers} == set(family.tasks)
        if family.describe()["family"] != "pairs":
            assert all(set(item.answers) == set(family.tasks) for item in pool), name
        json.dumps(family.describe())


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
