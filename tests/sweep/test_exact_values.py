"""A sweep's values reach the run as they are: written so that they are read back, and held against what ran."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.cli.flags_study import study_of_flags
from patchboard.errors import SpecError
from patchboard.spec import dump_yaml, load_study, parse_overrides, study_of
from patchboard.spec.agreement import check_given
from patchboard.sweeps.collect import collected
from patchboard.sweeps.command import argument
from patchboard.sweeps.file import load_sweep
from patchboard.sweeps.runner import Ran
from patchboard.track.agent_point import point_of
from tests.conftest import ROOT

TREE: dict[str, Any] = {
    "model": {"name": "embedded"},
    "tasks": {"family": "bitwise"},
    "interventions": {"p": {"op": "patch", "vector": {"mean": "same_task", "shots": 2, "prompts": 6}}},
}
VALUES = [
    True, False, None, 0, -3, 1e-05, 1.5e300, 2.0, "", "1e-3", "no", "08", "0o7", "true", "True", "null", "~", "None",
    "=", "<<", "2:5", "2020-01-01", " a b ", "a=b", "it's", 'say "it"', "{input} ->", "a: b", "# a", "{task}\n", "\t",
    "\\n", "a\0", "é", "\u2028", "\x85", "😀", [], ["a\n", "true", True, None, "None", 1, 1.0], [[1, 0], [3, 2]],
    {"sweep": ["", "{task}\n"]},
]  # fmt: skip


def typed(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_read_back_as_itself(value):
    found = parse_overrides([argument("prompts.template.prefix", value)])
    assert typed(found["prompts.template.prefix"]) == typed(value)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_is(value):
    assert parse_overrides([argument("name", value)]) == {"name": value}


def test_what_cannot_stand_on_a_command_line_is_one_line():
    with pytest.raises(SpecError, match=r"parameters\.tasks\.a: the number inf cannot stand on a command line; write"):
        argument("tasks.a", math.inf)


def test_ordinary_values_and_flags_are_written_as_wandb_writes_them():
    assert argument("tasks.include_null", False) == "--tasks.include_null=False"
    assert argument("tasks.only", ["AND", "OR"]) == "--tasks.only=['AND', 'OR']"
    assert argument("model", "123") == "--model=123" and argument("layers", [0, 1]) == "--layers=[0, 1]"


def sweep(folder: Path, command: list[str], parameters: dict[str, Any]) -> Any:
    path = folder / "sweep.yaml"
    program = str(ROOT / "experiments" / "patch_sweep.py")
    path.write_text(json.dumps({"program": program, "method": "grid", "parameters": parameters, "command": command}))
    return load_sweep(path)


BOOLEAN = {"tasks.include_null": {"values": [True, False]}}
NUMBER = {"prompts.shots": {"values": [0, 1]}}
READS = "and a run reads --PATH=VALUE; use ${args}"
REFUSED = {
    "false": (
        ["${args_no_boolean_flags}"],
        BOOLEAN,
        "writes nothing for false and no value for true, which tasks.incl",
    ),
    "constant": (
        ["${args_no_boolean_flags}"],
        {"a": {"value": False}},
        "which a may be; use ${args}, which writes both",
    ),
    "hyphens": (["${args_no_hyphens}"], NUMBER, f"'${{args_no_hyphens}}' writes PATH=VALUE, {READS}"),
    "equals": (["${args_no_equals}"], NUMBER, f"'${{args_no_equals}}' writes --PATH VALUE, {READS}"),
    "json": (["${args_json}"], NUMBER, f"'${{args_json}}' writes JSON, {READS}"),
    "file": (["${args_json_file}"], NUMBER, f"writes the path of a JSON file, {READS}"),
    "none": (["${program}"], NUMBER, "command: has no ${args}, so no parameter would reach a point; add ${args}"),
    "variable": (["${envvar:NO}", "${args}"], NUMBER, "the variable NO is not set; export NO, or write the value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_macro_that_would_lose_values_is_refused(tmp_path, case):
    command, parameters, says = REFUSED[case]
    with pytest.raises(SpecError) as caught:
        sweep(tmp_path, command, parameters)
    assert says in caught.value.one_line()


def test_variables_are_filled_in_and_enter_the_digest(tmp_path, monkeypatch):
    command, digests = ["${program}", "--model=${envvar:OURS}/x", "${args_no_boolean_flags}"], set()
    for name in ("a", "b"):
        monkeypatch.setenv("OURS", name)
        found = sweep(tmp_path, command, NUMBER)
        assert found.command[1] == f"--model={name}/x"
        digests.add(found.digest)
    assert len(digests) == 2


HELD = {
    "prompts.shots": 4, "tasks.include_null": True, "model": "embedded", "dtype": "auto", "layers": "all",
    "interventions.p.strength": 1, "controls": ["self", "random", "other_task"], "engine": "rows", "decodability.k": 10,
}  # fmt: skip
LOST = {
    "tasks.include_null": False, "prompts.shots": 0, "model": "gpt2", "layers": [0, 1], "decodability": None,
    "interventions.p.strength": 0.5, "interventions.p.position": ["last", "query"], "tasks.only": ["OR"],
    "name": "other",
}  # fmt: skip


def test_a_spec_is_held_against_what_it_was_given():
    tree = study_of(TREE).tree
    held = {**HELD, "prompts.shots": tree["prompts"]["shots"], "controls": tree["controls"]}
    check_given(tree, held | {"decodability.k": tree["decodability"]["k"]})
    for name, value in LOST.items():
        with pytest.raises(SpecError) as caught:
            check_given(tree, {**held, name: value})
        assert caught.value.where == f"--{name}" and "the spec that ran holds" in caught.value.what
        if name not in ("model", "layers"):
            check_given(study_of(TREE, {name: value}).tree, {name: value})


def test_a_folder_that_a_script_finds_and_a_model_that_it_sweeps_are_held():
    beside = study_of(TREE, {"model.name": "/there/models/step8"}).tree
    for asked in ("models/step8", "~/models/step8", "/there/models/step8"):
        check_given(beside, {"model.name": asked})
    with pytest.raises(SpecError, match="--model"):
        check_given(beside, {"model.name": "models/step9"})
    check_given(study_of(TREE, {"model.revision": {"sweep": ["step1", "step2"]}}).tree, {"model.name": "embedded"})


def test_a_point_that_ran_with_another_value_has_failed(tmp_path):
    (tmp_path / "spec.yaml").write_text(dump_yaml(study_of(TREE).tree))
    found = collected(Ran({"tasks.include_null": False}, tmp_path, 0), SimpleNamespace(metric=None))
    assert found.ran.status == 2 and found.rows[0]["status"] == 2 and found.objective is None
    assert found.ran.message == (
        "--tasks.include_null: the sweep gives false, the spec that ran holds true; "
        "pass parameters by ${args}, and no path twice"
    )


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """Writes a point as wandb's agent does, and starts a run with the arguments that it would write."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args
    from wandb.sdk.lib.config_util import save_config_file_from_dict

    spec = tmp_path / "spec.yaml"
    spec.write_text(dump_yaml(TREE))

    def started(point: dict[str, Any], macro: str) -> Any:
        args = {name: {"value": value} for name, value in point.items()}
        save_config_file_from_dict(str(tmp_path / "point.yaml"), args)
        monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
        monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(tmp_path / "point.yaml"))
        flags = SimpleNamespace(spec=spec, plugins=(), model=None, revision=None, dtype=None, layers=None)
        return study_of_flags(flags, create_sweep_command_args({"args": args})[macro])  # type: ignore[arg-type]

    return started


def test_under_an_agent_values_are_those_of_its_point(agent):
    for text in ("1e-3", "{task}\n", "true"):
        tree = agent(
            {"prompts.template.prefix": text, "tasks.include_null": False, "model.revision": "08"}, "args"
        ).tree
        assert (tree["prompts"]["template"]["prefix"], tree["tasks"]["include_null"]) == (text, False)
        assert tree["model"]["revision"] == "08"


def test_under_an_agent_a_value_that_is_lost_is_one_line(agent):
    with pytest.raises(SpecError, match="--tasks.include_null: the sweep gives false, the spec that ran holds true"):
        agent({"tasks.include_null": False, "prompts.shots": 2}, "args_no_boolean_flags")


def test_without_an_agent_there_is_no_point(tmp_path):
    assert point_of({}) == {}
    assert point_of({"WANDB_SWEEP_ID": "s1", "WANDB_SWEEP_PARAM_PATH": str(tmp_path / "none")}) == {}
    assert load_study(dump_yaml(TREE)).name
