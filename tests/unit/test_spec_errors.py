"""Every wrong spec is one SpecError on one line, in the user's terms."""
# ruff: noqa: E501  # a case is a spec and its message, side by side

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import SpecError
from patchboard.spec import load_study, study_of
from patchboard.spec.yaml_text import dump_yaml, read_yaml
from tests.unit.spec_trees import NASTY, junk, trees, untimed


def _patch(fields: str) -> str:
    return f"interventions: {{positive: {{op: patch, vector: {{mean: same_task}}, {fields}}}}}\n"


AT = "interventions.positive"
CASES = [
    # wrong types, in YAML's terms
    ("prompts: {shots: four}\n", "prompts.shots: found the text 'four', expected a whole number; write a whole number such as 4"),
    ("prompts: {shots: '4'}\n", "prompts.shots: found the text '4', expected a whole number; write 4 without quotes"),
    ("prompts: {shots: 4.5}\n", "prompts.shots: found the number 4.5, expected a whole number; write a whole number such as 4"),
    ("prompts: {shots: true}\n", "prompts.shots: found true, expected a whole number; write a whole number such as 4"),
    ("prompts: {shots: [0, 4]}\n", "prompts.shots: found the list [0, 4], expected a whole number; write {sweep: [0, 4]} to sweep"),
    ("tasks: {include_null: 1}\n", "tasks.include_null: found the whole number 1, expected true or false; write true or false"),
    ("tasks: {include_null: 'no'}\n", "tasks.include_null: found the text 'no', expected true or false; write true or false"),
    ("tasks: {family: 3}\n", "tasks.family: found the whole number 3, expected text; put it in quotes: '3'"),
    (
        "model: gpt2\n",
        "model: found the text 'gpt2', expected a mapping (name, revision, dtype, adapter, quantization); "
        "write {name: gpt2}",
    ),
    ("decodability: false\n", "decodability: found false, expected a mapping (k, prompts, shots, twin, shuffled, probes); write null to leave it out"),
    ("metrics: kl\n", "metrics: found the text 'kl', expected a list; write [kl]"),
    ("metrics: [kl, 3]\n", "metrics[1]: found the whole number 3, expected text; put it in quotes: '3'"),
    ("controls: [{random: 3}]\n", "controls[0].random: found the whole number 3, expected a mapping; write random: {draws: 3}"),
    ("interventions: [{op: zero}]\n", "interventions: found the list [{op: zero}], expected a mapping; give each entry a name, as in {my_name: …}"),
    # bounds
    ("prompts: {shots: -1}\n", "prompts.shots: found -1, expected at least 0; write 0 or more"),
    ("statistics: {level: 1}\n", "statistics.level: found 1, expected less than 1.0; write less than 1.0"),
    ("metrics: []\n", "metrics: found a list of 0, expected at least 1; add to it"),
    ("tasks: {bits: .inf}\n", "tasks.bits: found inf, expected a finite number; write a number"),
    ("name: a b\n", "name: found the text 'a b', expected letters, digits, '.', '_' and '-', beginning with a letter or digit; rename it"),
    ("name: ../x\n", "name: found the text '../x', expected letters, digits, '.', '_' and '-', beginning with a letter or digit; rename it"),
    ("interventions: {a b: {op: zero}}\n", "interventions.a b: found the text 'a b', expected letters, digits, '_' and '-'; rename it"),
    ("interventions: {a.b: {op: zero}}\n", "interventions: the key 'a.b' is no field's name, expected text without '.', '[' and ']'; rename it"),
    # unknown keys
    ("modle: {name: x}\n", "modle: unknown key 'modle'; did you mean 'model'?"),
    ("model: {zzz: 1}\n", "model.zzz: unknown key 'zzz'; choose one of adapter, dtype, name, quantization, revision"),
    ("shots: 4\n", "shots: unknown key 'shots'; write it under prompts or decodability or guardedness"),
    (_patch("layer: 3"), f"{AT}.layer: unknown key 'layer'; did you mean 'layers'?"),
    (_patch("mean: same_task"), f"{AT}.mean: unknown key 'mean'; write it under vector"),
    ("interventions: {a: {edits: [{opp: zero}]}}\n", "interventions.a.edits[0].opp: unknown key 'opp'; did you mean 'op'? (and 1 more)"),
    ("version: 2\n", "version: found the whole number 2, this package reads version 1; write version: 1"),
    ("version: true\n", "version: found true, this package reads version 1; write version: 1"),
    # what belongs together
    ("prompts: {labels: shuffled, shots: 1}\n", "prompts.labels: shuffled needs at least 2 demonstrations, shots is 1; use more shots, or labels: own"),
    ("prompts: {labels: shuffled, shots: {sweep: [4, 0]}}\n", "prompts.labels: shuffled needs at least 2 demonstrations, shots is 0; use more shots, or labels: own"),
    ("interventions: {a: {vector: {mean: x}}}\n", "interventions.a: has neither op nor edits; add op: patch (`patchboard ls` lists all ops)"),
    ("interventions: {a: {op: zero, edits: [{op: zero}]}}\n", "interventions.a: has op beside edits; move op into each of the edits"),
    ("interventions: {a: {op: patch, vector: {mean: x, subspace: tasks}}}\n", "interventions.a.vector: has mean and subspace, expected exactly one of mean, difference, mass_mean, logistic, subspace, pca, function_vector, contrast, sae, file, das, steer; write one of them"),
    ("interventions: {a: {op: patch, vector: {mean: x, rank: 3}}}\n", "interventions.a.vector.rank: found the whole number 3 beside mean, but only a subspace has a rank; remove it, or write subspace: tasks"),
    ("interventions: {a: {op: patch, vector: {difference: [x, x]}}}\n", "interventions.a.vector.difference[1]: x stands in the list twice; keep one"),
    ("prompts: {template: {input: x}}\n", "prompts.template.input: holds {input} 0 times, expected exactly once; write '{input}' where the input belongs"),
    # layers, positions, choices
    (_patch("layers: al"), f"{AT}.layers: found the text 'al', expected layers; did you mean 'all'?"),
    (_patch("layers: 0:8:0"), f"{AT}.layers: 0:8:0 has a step of 0, expected another whole number; leave the step out for 1"),
    (_patch("layers: [1, true]"), f"{AT}.layers[1]: found true, expected a layer's number; write whole numbers"),
    (_patch("layers: {together: [3, 3]}"), f"{AT}.layers.together[1]: 3 stands in the list twice; keep one"),
    (_patch("position: '3'"), f"{AT}.position: found the text '3', expected a token's index; write 3 without quotes"),
    (_patch("site: resid"), f"{AT}.site: found the text 'resid', expected 'resid_pre', 'q', 'k', 'v', 'pattern', 'head', 'attn_out', "
     "'mlp_pre', 'mlp_act', 'mlp_out' or 'resid_post'; did you mean 'resid_pre'?"),
    # sweeps
    (_patch("strength: {sweep: [0, x]}"), f"{AT}.strength.sweep[1]: found the text 'x', expected a number; write a number such as 1.0"),
    (_patch("strength: {sweep: [0, 1, 1.0]}"), f"{AT}.strength.sweep[2]: 1.0 stands in the list twice; keep one"),
    (_patch("strength: {sweep: []}"), f"{AT}.strength: sweeps an empty list, expected a list of values; write {{sweep: [v1, v2]}}"),
    (_patch("strength: {sweep: [0], b: 1}"), f"{AT}.strength: found sweep beside b, expected it alone; write {{sweep: [v1, v2]}}"),
    (_patch("strength: {swep: [0, 1]}"), f"{AT}.strength: found the mapping {{swep: [0, 1]}}, expected a number; write {{sweep: [v1, v2]}} to sweep"),
    ("decodability: {sweep: [{k: {sweep: [1]}}]}\n", "decodability.sweep[0]: found a sweep inside a sweep; sweep the outer field over plain values, or the inner fields alone"),
    ("decodability: {sweep: [{}, {k: 10}]}\n", "decodability.sweep[1]: {k: 10, prompts: 100, shots: [0, 1, 2, 4]} stands in the list twice; keep one"),
    ("interventions: {a: {sweep: [{op: zero}]}}\n", "interventions.a: an intervention cannot be swept as a whole; name each, or sweep its fields"),
    ("name: {sweep: [a, b]}\n", "name: found a sweep where none is meant; sweep a field of a section"),
    # YAML itself
    ("a: 1\na: 2\n", "spec:2: the key 'a' is given twice; keep one"),
    ("a:\n\tb: 1\n", "spec:2: is no YAML (found character '\\t' that cannot start any token); indent with spaces, not tabs"),
    ("a: 1\nb: c: d\n", "spec:2: is no YAML (mapping values are not allowed here); put text that holds ': ' in quotes, and check the indentation"),
    ("a: &x [*x]\n", "a[0]: holds itself through an alias; write the value out"),
    ("a: !!int x\n", "spec: a tag does not fit its value (invalid literal for int() with base 10: 'x'); write plain values without !! tags"),
    (_patch("layers: {together: :4}"), "spec:1: is no YAML (expected the node content, but found ':'); put the text in quotes"),
    ("- a\n", "spec: holds the list [a], expected a mapping; see docs/spec.md for an example"),
    ("", "spec: holds nothing (null), expected a mapping; see docs/spec.md for an example"),
    # several
    ("prompts: {shots: x, queries: 0}\nmetrics: []\n", "prompts.shots: found the text 'x', expected a whole number; write a whole number such as 4 (and 2 more)"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), CASES)
def test_message(text: str, message: str):
    with pytest.raises(SpecError) as caught:
        load_study(text)
    assert str(caught.value) == message


def test_true_and_one_are_two_values_of_a_sweep():
    assert [p.spec.tasks.model_extra for p in load_study("tasks: {bits: {sweep: [true, 1]}}\n").points] == [
        {"bits": True},
        {"bits": 1},
    ]


def test_files(tmp_path):
    (tmp_path / "sweep.yaml").write_bytes(b"name: \xff\n")
    for name, message in [
        ("sweap.yaml", "there is no such file; did you mean 'sweep.yaml'?"),
        ("sweep.yaml", "is not UTF-8 (byte 6); save it as UTF-8"),
        (".", "cannot be read (Is a directory); give the path of a YAML spec"),
    ]:
        with pytest.raises(SpecError) as caught:
            load_study(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}: {message}"


@untimed
@given(st.text(NASTY + "\x00\ud800"))
def test_any_text_is_plain_data_or_one_line(text: str):
    try:
        tree = read_yaml(text, "spec")
    except SpecError as error:
        assert "\n" not in error.one_line() and error.what and error.remedy
    else:
        assert read_yaml(dump_yaml(tree), "again") == tree


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [path, *(p for key, value in entries for p in _paths(value, (*path, key)))]


@untimed
@given(st.data())
def test_a_tree_with_anything_put_anywhere_loads_or_says_where_it_is_wrong(data: st.DataObject):
    tree: Any = copy.deepcopy(data.draw(trees()))
    path = data.draw(st.sampled_from(_paths(tree)))
    node: Any = tree
    for key in path:
        holder, last, node = node, key, node[key]
    value = data.draw(junk)
    if not path:
        tree = value
    elif data.draw(st.booleans()) or not isinstance(node, dict):
        holder[last] = value
    else:
        node[data.draw(st.sampled_from(["sweep", "name", "layer", "x"]))] = value
    try:
        study = study_of(tree)
    except SpecError as error:
        assert error.where and "\n" not in error.one_line()
        assert "function-" not in error.where and "list[" not in error.where
    else:
        assert study_of(study.tree) == study
