"""The JSON Schema takes every spec that loads, and refuses an editor's typical slips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from patchboard.spec import json_schema, study_of
from patchboard.spec.yaml_text import read_yaml
from tests.unit.spec_trees import trees, untimed
from tests.unit.test_spec_study import CONTRACT

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TRAINING = [script.stem for script in EXPERIMENTS.glob("*.py") if "TrainingScript" in script.read_text()]
# hijack.yaml and hijack_full.yaml are of hijack.py, which has settings of its own
SPECS = [
    file
    for file in sorted((EXPERIMENTS / "specs").glob("*.yaml"))
    if not any(f"{file.stem}_".startswith(f"{script}_") for script in TRAINING)
]
SCHEMA = jsonschema.Draft202012Validator(json_schema())


def test_it_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_contract_example_passes():
    SCHEMA.validate(read_yaml(CONTRACT, "contract"))


@pytest.mark.parametrize("file", SPECS, ids=lambda file: file.name)
def test_shipped_specs_pass(file: Path):
    tree = read_yaml(file.read_text(encoding="utf-8"), file.name)
    SCHEMA.validate(tree)
    SCHEMA.validate(study_of(tree).tree)


@untimed
@given(trees())
def test_what_loads_passes_and_so_does_its_resolved_tree(tree: dict[str, Any]):
    SCHEMA.validate(tree)
    SCHEMA.validate(study_of(tree).tree)


@pytest.mark.parametrize(
    "text",
    [
        "modle: {name: x}",
        "model: gpt2",
        "version: 2",
        "name: {sweep: [a, b]}",
        "prompts: {shots: [0, 4]}",
        "prompts: {shots: {sweep: []}}",
        "prompts: {shots: {sweep: [0, x]}}",
        "prompts: {shots: {sweep: [0], x: 1}}",
        "prompts: {shots: {sweep: [0, 0]}}",
        "prompts: {shots: '4'}",
        "tasks: {include_null: 1}",
        "interventions: {a: {sweep: [{op: zero}]}}",
        "interventions: {a b: {op: zero}}",
        "interventions: {a: {}}",
        "interventions: {a: {op: zero, edits: [{op: zero}]}}",
        "interventions: {a: {op: zero, layer: 3}}",
        "interventions: {a: {op: zero, layers: 0-8}}",
        "interventions: {a: {op: zero, position: 1.5}}",
        "interventions: {a: {op: zero, site: resid}}",
        "interventions: {a: {op: patch, vector: {mean: x, subspace: tasks}}}",
        "interventions: {a: {op: patch, vector: {shots: 3}}}",
        "interventions: {a: {edits: []}}",
        "controls: [{random: {draws: 0}}]",
        "controls: [{random: {draws: 1}, self: {}}]",
        "metrics: kl",
        "metrics: []",
        "decodability: {sweep: [{k: {sweep: [1]}}]}",
        "statistics: {level: 1.5}",
    ],
)
def test_typical_slips_fail(text: str):
    assert not SCHEMA.is_valid(read_yaml(text, "spec"))


def test_tasks_keep_their_families_own_options():
    assert SCHEMA.is_valid({"tasks": {"family": "pairs", "files": ["a.csv"], "deep": {"er": {"sweep": [1]}}}})


def test_fields_carry_their_descriptions_for_editors():
    prompts = json_schema()["$defs"]["SweepablePromptsSection"]["properties"]
    assert prompts["shots"]["description"] == "demonstrations before the query"
    assert prompts["shots"]["default"] == 4
