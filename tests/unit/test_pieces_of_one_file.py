"""A fitter, a control and a position, each defined here alone, are known wherever their kind is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jsonschema
import polars as pl
import pytest
import torch

from patchboard.commands.main import main
from patchboard.errors import SpecError
from patchboard.plan.controls import CONTROLS, Control, ControlCell
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.plan.validate import check_study
from patchboard.report.described import describe
from patchboard.report.described_edits import describe_interventions
from patchboard.spec import json_schema, study_of
from patchboard.spec.positions import POSITIONS, Position
from patchboard.spec.section import Section
from patchboard.store.vectors import load_vectors
from patchboard.vectors.fitters import FITTERS, Fitter
from tests.contract.tiny import VECTOR, run, tiny_tree

BETWEEN = {"between": ["same_task", "all_tasks"], "share": 0.25, "shots": 1, "prompts": 3}


@pytest.fixture
def pieces(monkeypatch) -> Iterator[None]:
    """Registered for one test."""
    for registry in (FITTERS, CONTROLS, POSITIONS):
        monkeypatch.setattr(registry, "_enrolled", dict(registry._enrolled))

    @FITTERS.register("between")
    class Between(Fitter):
        """between two tasks' means"""

        takes = "pair"
        options = {"share": 0.5}
        phrase = "a point between {first} and {second}"

        @staticmethod
        def build(recipe, statistics):
            share = dict(recipe.options)["share"]
            first, second = (
                statistics.means(tasks, recipe.layer, recipe.only).mean(0) for tasks in (recipe.plus, recipe.minus)
            )
            return (1 - share) * first + share * second

    class Times(Section):
        times: float = 2.0

    @CONTROLS.register("stronger")
    class Stronger(Control):
        """the same edit, stronger"""

        phrase = "the same vector, longer"
        Options = Times

        @classmethod
        def cells(cls, placed, options):
            edits = [replace(own.edit, strength=own.edit.strength * options.times) for own in placed.edits]
            planned = tuple(PlannedEdit(edit, own.recipe) for edit, own in zip(edits, placed.edits, strict=True))
            yield ControlCell("stronger", placed.vector_task, planned)

    POSITIONS.register("first_two")(Position("the first two tokens", "the first two tokens", lambda prompt: (1, 0)))
    yield


def tree(model, **changes):
    interventions = {
        "b": {"op": "add", "vector": BETWEEN, "layers": [2], "position": "first_two"},
        "own": {"op": "add", "vector": VECTOR, "layers": [2], "position": "first_two"},
        "all": {"op": "add", "vector": {**VECTOR, "mean": "all_tasks"}, "layers": [2], "position": [0, 1]},
        "twice": {"op": "add", "vector": BETWEEN, "layers": [2], "position": [0, 1], "strength": 3.0},
    }
    controls = ["random", {"stronger": {"times": 3.0}}]
    return tiny_tree(model, interventions=interventions, controls=controls, decodability=None, **changes)


def test_a_run_uses_them_and_all_pages_tell_them(pieces, llama_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)  # figures take ten times as long
    study = study_of(tree(llama_folder))
    assert run(tree(llama_folder), tmp_path / "run", "--engine", "wavefront") == 0
    vectors = load_vectors(tmp_path / "run" / "vectors.safetensors", study.digest)
    expected = 0.75 * vectors["own/AND/2"] + 0.25 * vectors["all/ALL/2"]
    torch.testing.assert_close(vectors["b/AND/2"], expected)
    effects = pl.read_parquet(tmp_path / "run" / "effects.parquet").filter(metric="kl").sort("task")

    def patched(name, control):
        return effects.filter(intervention=name, control=control)["patched"].to_list()

    assert patched("b", "stronger") == pytest.approx(patched("twice", ""), abs=1e-5), "three times, at the same tokens"
    assert patched("b", "") != pytest.approx(patched("b", "stronger"), abs=1e-4)
    assert len(patched("b", "random")) == 3
    assert run(tree(llama_folder), tmp_path / "rows", "--engine", "rows") == 0
    rows = pl.read_parquet(tmp_path / "rows" / "effects.parquet").filter(metric="kl").sort("task")
    assert rows["patched"].to_list() == pytest.approx(effects["patched"].to_list(), abs=1e-4)
    capsys.readouterr()
    assert main(["ls"]) == 0
    listed = capsys.readouterr().out
    for line in ("between          between two tasks' means", "stronger         the same vector, longer",
                 "first_two        the first two tokens"):  # fmt: skip
        assert f"  {line}\n" in listed
    said = describe_interventions(study.tree)["b"]
    assert "at the first two tokens" in said and "a point between the prompt's own task and all tasks" in said
    assert "stronger (the same vector, longer)" in " ".join(describe(study.tree, {"models": []}, ["AND"]))


def test_a_spec_and_its_schema_know_them(pieces, llama_folder):
    check_study(study_of(tree(llama_folder)))
    schema = json_schema()
    jsonschema.validate(tree(llama_folder), schema)
    for wrong, message in {
        "betwen": "interventions.b.vector.betwen: unknown key 'betwen'; did you mean 'between'?",
        "shares": "interventions.b.vector.shares: unknown key 'shares'; did you mean 'share'?",
    }.items():
        right = {"betwen": "between", "shares": "share"}[wrong]
        vector = {wrong if key == right else key: value for key, value in BETWEEN.items()}
        changed = tree(llama_folder)
        changed["interventions"]["b"]["vector"] = vector
        with pytest.raises(SpecError) as caught:
            study_of(changed)
        assert str(caught.value) == message
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, schema)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"between": "same_task"}, "between: found the text 'same_task', expected two tasks; write between: [same_"),
        ({"between": ["same_task", "nil"]}, "between[1]: unknown task 'nil'; choose one of"),
        ({"share": "half"}, "share: found the text 'half', expected something as the number 0.5; write share: 0.5"),
        ({"mean": "same_task"}, " has mean and between, expected exactly one of mean, difference, mass_mean, logist"),
        ({"rank": 2}, "rank: found the whole number 2 beside between, but only a subspace has a rank; "),
    ],
)
def test_wrong_values_are_refused_in_a_line(pieces, llama_folder, changes, message):
    changed = tree(llama_folder)
    changed["interventions"]["b"]["vector"] = {**BETWEEN, **changes}
    with pytest.raises(SpecError) as caught:
        check_study(study_of(changed))
    assert str(caught.value).startswith(("interventions.b.vector." + message).replace(". has", ": has"))


def test_a_controls_options_are_its_own(pieces, llama_folder):
    for controls, message in (
        ([{"stronger": {"tims": 3.0}}], "controls[0].tims: unknown key 'tims'; did you mean 'times'?"),
        ([{"stronger": {"draws": 3}}], "controls[0].draws: unknown key 'draws'; choose one of times"),
        ([{"self": {"draws": 2}}], "controls[0].draws: unknown key 'draws'; none is known"),
        (["stronge"], "controls[0]: unknown control 'stronge'; did you mean 'stronger'?"),
    ):
        with pytest.raises(SpecError) as caught:
            check_study(study_of({**tree(llama_folder), "controls": controls}))
        assert str(caught.value) == message


def test_a_position_outside_the_prompt_is_refused(pieces, llama_folder, tmp_path, capsys):
    POSITIONS.register("beyond")(Position("x", "x", lambda prompt: (len(prompt.token_ids),)))
    assert run(tree(llama_folder), tmp_path / "run") == 2
    assert capsys.readouterr().err.startswith("error: position 'beyond': gave token ")


def test_without_them_they_are_unknown(llama_folder):
    with pytest.raises(SpecError, match="unknown key 'between'|unknown position 'first_two'"):
        study_of(tree(llama_folder))
