"""The documentation against the code: generated pages are current, examples load, tables name real columns."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from patchboard.errors import PatchboardError
from patchboard.execution.run import Options, run_study
from patchboard.plan.validate import check_study
from patchboard.spec import (
    controls,
    edits,
    fitted,
    keep,
    load_study,
    path_patching,
    places,
    prompts,
    sections,
    study_of,
    vectors,
)
from patchboard.spec.overrides import parse_overrides
from patchboard.spec.section import Section
from patchboard.store import schema

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def specs(page: Path) -> list[str]:
    return [text for text in blocks(page, "ya?ml") if text.startswith("version:")]


EXAMPLES = [pytest.param(text, id=f"{page.stem}-{i}") for page in PAGES for i, text in enumerate(specs(page))]


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(ROOT / "docs" / "reference.py"))


@pytest.fixture
def users_files(tmp_path, monkeypatch):
    """The files that the examples name, in the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_tasks").mkdir()
    pairs = '[{"input": "hot", "output": "cold"}, {"input": "up", "output": "down"}]'
    for name in ("antonym", "plural"):
        (tmp_path / "my_tasks" / f"{name}.json").write_text(pairs)
    (tmp_path / "my.conllu").touch()
    (tmp_path / "my_pairs.jsonl").write_text(blocks(ROOT / "docs" / "tasks.md", "json")[0])


def test_the_page_of_the_spec_is_current(script):
    current = (ROOT / "docs" / "spec.md").read_text(encoding="utf-8")
    assert script["reference"]() == current, "run `python docs/reference.py`"


def test_every_section_has_its_place_on_the_page(script):
    modules = (sections, controls, edits, fitted, keep, path_patching, places, prompts, vectors)
    held = [value for module in modules for value in vars(module).values()]
    known = {s for s in held if isinstance(s, type) and issubclass(s, BaseModel)}
    # ControlOptions is the short form of ControlSection
    known -= {base for s in known for base in s.__bases__}  # of which sections are made
    plain = {s for s in known - {BaseModel, Section, controls.ControlOptions} if s.__name__[0] != "_"}
    assert {section for _, section in script["PLACES"]} == plain


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]}, "whole number ≥ 1 or null"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "number > 0, < 1"),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}, "list of text (2)"),
        ({"enum": ["pca", "leace"]}, "`pca`, `leace`"),
        ({"$ref": "#/$defs/Together"}, "mapping"),
    ],
)
def test_types_in_words(script, shape, words):
    assert script["kind_of"](shape) == words


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_valid_specs(text, users_files):
    check_study(load_study(text))


def test_examples_are_found_and_a_wrong_one_is_seen():
    assert len(EXAMPLES) >= 8
    with pytest.raises(PatchboardError):
        check_study(load_study("version: 1\ninterventions: {a: {op: pach, vector: {mean: same_task}}}\n"))


def test_overrides_on_the_page_are_valid():
    (text,) = blocks(ROOT / "docs" / "spec.md", "sh")
    lines = [shlex.split(line)[3:] for line in text.splitlines()]
    assert all(lines)
    for overrides in lines:
        tree = {"interventions": {"positive": {"op": "patch", "vector": {"mean": "same_task"}}}}
        check_study(study_of(tree, parse_overrides(overrides)))


def test_links_lead_somewhere():
    def anchors(page: Path) -> set[str]:
        heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}

    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose):
            file, _, anchor = target.partition("#")
            other = page.parent / file if file else page
            assert other.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(other), f"{page.name}: {target}"


TABLES = {
    "Columns that name a cell": schema.CELL,
    "outcomes.parquet": {k: v for k, v in (schema.OUTCOMES | schema.SCALE).items() if k not in schema.CELL},
    "effects.parquet, curves.parquet": schema.MEASURED,
    "texts.parquet": {k: v for k, v in schema.TEXTS.items() if k not in schema.CELL},
    "top_tokens.parquet": {k: v for k, v in schema.TOP_TOKENS.items() if k not in schema.CELL},
    "decodability.parquet": schema.DECODABILITY | schema.FLOORS,
    "probes.parquet": schema.PROBED,
    "guardedness.parquet": schema.GUARDED,
    "prompts.parquet": schema.PROMPTS,
    "features.parquet": schema.FEATURES,
}


@pytest.mark.parametrize("head", TABLES)
def test_columns_and_types_are_those_of_the_schema(head):
    text = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    part = text.split(f"\n## {head}\n")[1].split("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| ([\w()]+) \|", part, re.MULTILINE))
    assert told == {name: str(kind) for name, kind in TABLES[head].items()}
    assert not set(schema.EFFECTS) - set(schema.CELL) - set(schema.MEASURED) - {"task", "metric"}


def test_the_outcome_by_hand_is_the_stored_one(llama_folder, tmp_path, monkeypatch, capsys):
    vector = {"mean": "same_task", "shots": 2, "prompts": 6}
    tree = {
        "model": {"name": str(llama_folder)},
        "tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "XOR"]},
        "prompts": {"shots": 0, "queries": 4},
        "interventions": {"positive": {"op": "patch", "vector": vector}},
        "decodability": None,
    }
    run = run_study(study_of(tree), Options(out=tmp_path / "run"))
    (text,) = blocks(ROOT / "docs" / "run-folder.md", "python")
    monkeypatch.setattr(sys, "argv", ["by_hand.py", str(run)])
    exec(compile(text, "by_hand.py", "exec"), {})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["clean", "patched"]
    for _, stored, by_hand in lines:
        assert float(by_hand) == pytest.approx(float(stored), abs=1e-4)
    assert abs(float(lines[0][1]) - float(lines[1][1])) > 1e-2, "an edit without effect would prove nothing"


def test_the_example_of_a_family_is_one():
    from patchboard.spec.sections import TasksSection
    from patchboard.tasks.families import FAMILIES
    from patchboard.tasks.resolve import build_family
    from patchboard.tasks.sets import Halves

    (text,) = blocks(ROOT / "docs" / "tasks.md", "python")
    try:
        exec(compile(text, "case.py", "exec"), {"__name__": "case"})
        check_study(study_of({"tasks": {"family": "case"}}))
        family = build_family(TasksSection(family="case"), embedded=False)
        assert family.tasks == ("upper", "lower", "Null")
        ((_, query),) = Halves(family, 0).rows("evaluate", "upper", shots=1, count=1)
        assert query.answers["upper"] == query.input.upper()
    finally:
        FAMILIES.remove("case")


def test_tables_of_sources_name_what_the_families_have():
    from typing import get_args

    from patchboard.tasks.families.pos import GENERATED, Source
    from patchboard.tasks.sentences import TAG_NAMES, Corpus, shipped

    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    pos = text.split("\n## pos\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", pos, re.MULTILINE)) == set(get_args(Source))
    assert f"| {GENERATED} different ones" in text
    assert f"| {len(Corpus.of(shipped()).sentences)} that were written" in text
    for task, (universal, *penn) in TAG_NAMES.items():
        assert f"| {task} | {universal}; {', '.join(penn)} |" in text


def test_tables_of_counterfactual_families_name_their_spans_and_sources():
    from patchboard.tasks.families import FAMILIES

    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8").split("\n## ioi, ")[1].split("\n## ")[0]
    named, of = {}, ""
    for family, source in re.findall(r"^\| (\w*) ?\| `(\w+)` \|", text, re.MULTILINE):
        of = family or of
        named.setdefault(of, []).append(source)
    for name in ("ioi", "greater_than", "mcqa", "agreement"):
        kind = FAMILIES[name]
        assert named[name] == [*kind.sources(kind.Options())]
        (spans,) = re.findall(rf"^\| `{name}` .*\| (.*) \|$", text, re.MULTILINE)
        assert [each for each in spans.split(", ") if each != "…"] == [
            each for each in kind.spans(kind.Options()) if each != "choice2"
        ]


def test_files_that_the_docs_name_are_there():
    files = [str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py") if not {"typings", ".venv"} & set(file.parts)]
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for name in re.findall(r"`([\w/]+\.py)`", page.read_text()):
            there = any(f"/{file}".endswith(f"/{name}") for file in files)
            assert there or "NAME" in name, f"{page.name} names {name}"
