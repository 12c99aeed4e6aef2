"""Loading: resolved trees, axes, points, digests."""
# ruff: noqa: E501  # the contract's example as it stands there

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import SpecError
from patchboard.spec import dump_yaml, label, load_study, study_of
from patchboard.spec.paths import at_path
from tests.unit.spec_trees import put, shuffled, trees, untimed

CONTRACT = """
version: 1
name: patch-mean-task-vector
model: {name: embedded, revision: main}
tasks: {family: bitwise, include_null: true}  # family: bitwise | pos | pairs | …
prompts: {shots: {sweep: [0, 4]}, queries: 100, seed: 0}
interventions:
  positive: {op: patch,  vector: {mean: same_task, shots: 8, prompts: 100, only: correct}, layers: all, site: resid_post, position: last}
  added:    {op: add,    vector: {difference: [same_task, all_tasks], shots: 8, prompts: 100, only: correct}, strength: 1, layers: all, site: resid_post, position: last}
  negative: {op: patch,  vector: {mean: null_task, shots: 8, prompts: 100}, layers: all, site: resid_post, position: last}
  erased:   {op: ablate, vector: {subspace: tasks, rank: 4, method: pca, shots: 8}, layers: all, site: resid_post, position: last}
controls: [self, random, other_task]
metrics: [accuracy, logprob, kl]
decodability: {k: 10, prompts: 100, shots: [0, 1, 2, 4]}
statistics: {bootstrap: 2000, level: 0.95}
"""


def test_contract_example_gives_two_points_of_four_variants():
    study = load_study(CONTRACT)
    assert study.name == "patch-mean-task-vector"
    assert study.axes == {"prompts.shots": [0, 4]}
    assert [point.spec.prompts.shots for point in study.points] == [0, 4]
    assert [point.swept for point in study.points] == [{"prompts.shots": 0}, {"prompts.shots": 4}]
    for point in study.points:
        assert [variant.name for variant in point.variants] == ["positive", "added", "negative", "erased"]
    assert study.tree["prompts"]["template"]["input"] == "{input} ->"


@untimed
@given(trees())
def test_a_resolved_tree_loads_to_the_same_study(tree: dict[str, Any]):
    study = study_of(tree)
    for again in (study_of(study.tree), load_study(dump_yaml(study.tree) + "\n")):
        assert again == study
        # the order of axes is that of points, and dicts compare without it
        assert list(again.axes) == list(study.axes)


def _sweeps(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[tuple[Any, ...], int]]:
    """Path and length of each sweep, in order: the definition, literally."""
    if isinstance(node, dict) and set(node) == {"sweep"}:
        return [(path, len(node["sweep"]))]
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else []
    return [found for key, value in entries for found in _sweeps(value, (*path, key))]


@untimed
@given(trees())
def test_points_are_the_product_of_global_axes_and_variants_of_own_ones(tree: dict[str, Any]):
    study = study_of(tree)
    found = _sweeps(tree)
    shared = [(path, size) for path, size in found if path[0] != "interventions"]
    expected = list(itertools.product(*(range(size) for _, size in shared)))
    assert len(study.points) == len(expected)
    for point, indices in zip(study.points, expected, strict=True):
        assert list(point.swept.values()) == [
            list(study.axes.values())[found.index(axis)][i] for axis, i in zip(shared, indices, strict=True)
        ]
        for (path, _), value in zip(shared, point.swept.values(), strict=True):
            assert at_path(point.spec.model_dump(), path) == value
    for name in tree.get("interventions", {}):
        sizes = [size for path, size in found if path[:2] == ("interventions", name)]
        own = [variant for variant in study.points[-1].variants if variant.name == name]
        assert len(own) == len(list(itertools.product(*map(range, sizes))))
        assert own[0].section == study.points[-1].spec.interventions[name]


def test_first_axis_varies_slowest_and_values_are_the_resolved_ones():
    tree = {
        "statistics": {"seed": {"sweep": [5, 3]}},
        "prompts": {"shots": {"sweep": [2, 0, 1]}},
        "interventions": {"a": {"op": "zero", "strength": {"sweep": [1, 0.5]}, "layers": {"sweep": ["3, 5", 2]}}},
    }
    study = study_of(tree)
    order = [(p.spec.statistics.seed, p.spec.prompts.shots) for p in study.points]
    assert order == [(5, 2), (5, 0), (5, 1), (3, 2), (3, 0), (3, 1)]
    own = [v.swept for v in study.points[0].variants]
    assert [tuple(s.values()) for s in own] == [(1.0, [3, 5]), (1.0, 2), (0.5, [3, 5]), (0.5, 2)]
    assert [type(s["interventions.a.strength"]) for s in own] == [float] * 4
    assert list(own[0]) == ["interventions.a.strength", "interventions.a.layers"]


def test_a_section_may_be_swept_whole_and_an_entry_of_a_list_too():
    study = study_of({"decodability": {"sweep": [None, {"k": 5}]}, "controls": [{"sweep": ["self", "random"]}]})
    assert study.axes["decodability"] == [None, {"k": 5, "prompts": 100, "shots": [0, 1, 2, 4]}]
    assert study.axes["controls[0]"] == [{"name": "self", "draws": 1}, {"name": "random", "draws": 1}]
    assert [p.spec.decodability is None for p in study.points] == [True, True, False, False]


@untimed
@given(st.data())
def test_digest_is_that_of_the_meaning(data: st.DataObject):
    tree = data.draw(trees(sweeps=False))
    study = study_of(tree)
    other_order = shuffled(data.draw, tree)
    assert study_of(other_order | {"name": "another"}).digest == study.digest
    assert study_of({"version": 1, "name": "x"} | study.tree).digest == study.digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("controls: [random]\n", "controls: [{random: {draws: 1}}]\n"),
        ("controls: [random]\n", "controls: [{name: random}]\n"),
        ("controls: [{random: }]\n", "controls: [random]\n"),
        ("prompts: {shots: 4}\n", "{}"),
        ("interventions: {a: {op: zero, strength: 1}}\n", "interventions: {a: {strength: 1.0, op: zero}}\n"),
        ("interventions: {a: {op: zero, layers: '3, 5'}}\n", "interventions: {a: {op: zero, layers: [3, 5]}}\n"),
        ("interventions: {a: {op: zero}, b: {op: add}}\n", "interventions: {b: {op: add}, a: {op: zero}}\n"),
        ("interventions: {a: {op: zero, edits: null}}\n", "interventions: {a: {op: zero}}\n"),
        ("decodability: {sweep: [{}, null]}\n", "decodability: {sweep: [{k: 10}, null]}\n"),
    ],
)
def test_specs_of_one_meaning_share_a_digest(one: str, other: str):
    assert load_study(one).digest == load_study(other).digest


def test_any_other_difference_changes_the_digest():
    texts = [
        "{}",
        "metrics: [kl, rank]\n",
        "metrics: [rank, kl]\n",
        "metrics: {sweep: [[rank], [kl]]}\n",
        "metrics: {sweep: [[kl], [rank]]}\n",
        "prompts: {shots: {sweep: [4]}}\n",
        "tasks: {bits: 1}\n",
        "tasks: {bits: true}\n",
        "tasks: {bits: '1'}\n",
        "tasks: {bits: null}\n",
        "decodability: null\n",
        "interventions: {a: {op: zero}}\n",
        "interventions: {b: {op: zero}}\n",
        "interventions: {a: {edits: [{op: zero}]}}\n",
        "interventions: {a: {op: zero, layers: {together: all}}}\n",
        "controls: [{random: {draws: 2}}]\n",
    ]
    assert len({load_study(text).digest for text in texts}) == len(texts)


def test_name_is_outside_the_digest_and_version_inside_the_tree():
    study = load_study("name: x\n")
    assert (study.name, study.tree["version"]) == ("x", 1)
    assert study.digest == load_study("{}").digest


def test_a_file_loads_as_its_text_does(tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text("\ufeff" + CONTRACT, encoding="utf-8")
    assert load_study(file) == load_study(str(file)) == load_study(CONTRACT)


def test_the_caller_keeps_its_tree():
    tree: dict[str, Any] = {"controls": ["self"], "prompts": {"shots": {"sweep": [1, 2]}}}
    study_of(tree, {"prompts.queries": 3, "controls.0": "random"})
    assert tree == {"controls": ["self"], "prompts": {"shots": {"sweep": [1, 2]}}}


def test_a_product_that_is_surely_a_slip_is_refused_before_it_is_built():
    tree: dict[str, Any] = {}
    for path in ("prompts.shots", "prompts.queries", "prompts.seed", "statistics.seed", "decodability.k"):
        put(tree, path, {"sweep": list(range(1, 12))})
    with pytest.raises(SpecError, match="161051 points, expected at most 10000"):
        study_of(tree)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (1, "1"),
        (None, "null"),
        (0.001, "0.001"),
        ("last", "last"),
        ({"k": [1, None]}, '{"k":[1,null]}'),
    ],
)
def test_labels(value: Any, text: str):
    assert label(value) == text
