"""The spec's tasks section: names, options and choices held against the families."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from patchboard.errors import PatchboardError, SpecError, TaskError
from patchboard.spec.sections import TasksSection
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sentences import TAGS


@pytest.mark.parametrize(
    ("fields", "kind", "where", "says"),
    [
        ({"family": "bitwse"}, SpecError, "tasks.family", "did you mean 'bitwise'?"),
        ({"bitz": 4}, SpecError, "tasks.bitz", "did you mean 'bits'?"),
        ({"famly": "pos"}, SpecError, "tasks.famly", "did you mean 'family'?"),
        ({"files": ["a.json"]}, SpecError, "tasks.files", "option of counterfactual and pairs"),
        ({"bits": 0}, SpecError, "tasks.bits", "at least 1"),
        ({"bits": 17}, SpecError, "tasks.bits", "at most 16"),
        ({"bits": True}, SpecError, "tasks.bits", "found true, expected a whole number"),
        ({"only": ["AND", "NAN"]}, SpecError, "tasks.only", "did you mean 'NAND'?"),
        ({"only": ["null"]}, SpecError, "tasks.only", "include_null"),
        ({"family": "pairs"}, SpecError, "tasks.files", "is missing"),
        ({"family": "pairs", "files": []}, SpecError, "tasks.files", "at least 1"),
        ({"family": "pos", "source": "sentence"}, SpecError, "tasks.source", "did you mean 'sentences'?"),
        ({"family": "pos", "source": "treebank"}, SpecError, "tasks", "source treebank needs treebank"),
        ({"family": "pos", "source": "hub", "treebank": "a"}, SpecError, "tasks", "does not read treebank"),
        ({"family": "pos", "source": "grammar", "treebank": "a"}, SpecError, "tasks", "does not read treebank"),
        ({"family": "pos", "treebank": "none.conllu"}, TaskError, "tasks.treebank", "'none.conllu' is no file"),
        (
            {"family": "pos", "dataset": {"name": "a", "words": "w", "tags": "t", "splitt": "s"}},
            SpecError, "tasks.dataset.splitt", "did you mean 'split'?",
        ),
        (
            {"family": "pos", "source": "treebank", "dataset": {"name": "a", "words": "w", "tags": "t"}},
            SpecError, "tasks", "does not read dataset",
        ),
        (
            {"family": "pos", "treebank": "a", "dataset": {"name": "a", "words": "w", "tags": "t"}},
            SpecError, "tasks", "both treebank and dataset",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line_at_its_field(fields, kind, where, says):
    with pytest.raises(PatchboardError) as caught:
        build_family(TasksSection(**fields), embedded=False)
    assert type(caught.value) is kind and caught.value.where == where
    assert says in caught.value.one_line() and "\n" not in str(caught.value)


def test_only_keeps_the_family_order_in_any_case_and_null_stays_last():
    backwards = TasksSection(family="pos", only=["PRONOUN", "preposition", "adverb", "verb", "adjective", "noun"])
    assert build_family(backwards, embedded=True).tasks == (*TAGS, "Null")
    chosen = TasksSection(family="pos", only=["Pronoun", "NOUN", "noun"])
    assert build_family(chosen, embedded=True).tasks == ("noun", "pronoun", "Null")
    without = TasksSection(family="bitwise", only=["xor", "And"], include_null=False)
    assert build_family(without, embedded=True).tasks == ("AND", "XOR")


def test_bits_reach_the_pool():
    pool = build_family(TasksSection(family="bitwise", bits=2), embedded=False).pool(0)
    assert sorted(item.input for item in pool)[:2] == ["00 00", "00 01"] and len(pool) == 16


@pytest.mark.parametrize(
    ("embedded", "fields", "source"),
    [(True, {}, "grammar"), (False, {}, "sentences"), (False, {"source": "grammar"}, "grammar"),
     (True, {"source": "sentences"}, "sentences")],
)  # fmt: skip
def test_the_source_of_sentences_follows_the_model_unless_given(embedded, fields, source):
    assert build_family(TasksSection(family="pos", **fields), embedded).describe()["source"] == source


def test_resolving_a_section_imports_no_heavy_library():
    code = """
import sys
from patchboard.spec.sections import TasksSection
from patchboard.tasks.resolve import build_family
build_family(TasksSection(family="pos"), embedded=False).pool(0)
build_family(TasksSection(family="pos", dataset={"name": "a", "words": "w", "tags": "t"}), embedded=False)
heavy = {"torch", "transformers", "datasets", "sklearn", "scipy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
