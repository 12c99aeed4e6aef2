"""``--a.b.c=value``: the same as editing the YAML."""
# ruff: noqa: E501  # a case is an argument and its message, side by side

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import SpecError
from patchboard.spec import apply_overrides, dump_yaml, load_study, parse_overrides, study_of
from patchboard.spec.overrides import text_of_flag
from tests.unit.spec_trees import EDIT, GLOBAL, put, trees, untimed

SPEC = """
interventions:
  positive: {op: patch, vector: {mean: same_task}, layers: [1, 2]}
controls: [self, {random: {draws: 2}}]
"""


@untimed
@given(st.data())
def test_an_override_is_an_edit_of_the_file(data: st.DataObject):
    tree = data.draw(trees())
    edited = copy.deepcopy(tree)
    names = [name for name, node in tree.get("interventions", {}).items() if "edits" not in node]
    arguments = []
    for prefix, fields in [("", GLOBAL), *((f"interventions.{name}.", EDIT) for name in names)]:
        path = data.draw(st.sampled_from([p for p in sorted(fields) if p != "vector.shots" and p != "vector.only"]))
        value = data.draw(fields[path])
        if data.draw(st.booleans()) and path not in ("controls", "layers"):
            value = {"sweep": [value]}
        put(edited, prefix + path, value)
        arguments.append(f"--{prefix}{path}={dump_yaml(value)}")
    # None stands for null in an override, and a text "None" is written without quotes
    if "None" in str(arguments):
        return
    expected = study_of(edited)
    assert study_of(tree, parse_overrides(arguments)) == expected
    assert study_of(apply_overrides(tree, parse_overrides(arguments))) == expected


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("4", 4), ("1e-3", 0.001), ("True", True), ("false", False), ("None", None), ("null", None), ("", None), ("~", None),
        ("'None'", "None"), ("[0, None]", [0, None]), ("{sweep: [0, 4]}", {"sweep": [0, 4]}), ("0:80:4", "0:80:4"), ("3,5", "3,5"),
        ("yes", "yes"), ("2024-01-01", "2024-01-01"), ("a=b", "a=b"), ("'{input} ->'", "{input} ->"), ("None of it", "None of it"),
    ],
)  # fmt: skip
def test_values_are_yaml_and_none_is_null(argument: str, value: Any):
    ((path, found),) = parse_overrides([f"--prompts.shots={argument}"]).items()
    assert (path, found, type(found)) == ("prompts.shots", value, type(value))


def _spec(*arguments: str):
    return load_study(SPEC, parse_overrides(arguments)).points[0].spec


def test_paths_into_lists_mappings_and_sections_not_yet_there():
    assert _spec("--metrics.0=rank").metrics == ["rank", "logprob", "kl"]
    assert _spec("--metrics[2]=rank").metrics == ["accuracy", "logprob", "rank"]
    assert _spec("--interventions.positive.layers.1=7").interventions["positive"].layers == [1, 7]
    assert _spec("--statistics.level=0.5").statistics.level == 0.5
    assert _spec("--decodability=null").decodability is None
    assert set(_spec("--interventions.new={op: zero}").interventions) == {"positive", "new"}
    assert _spec("--prompts={queries: 3}", "--prompts.shots=1").prompts.shots == 1
    together = _spec("--interventions.positive.layers.together=all").interventions["positive"].layers
    assert together.model_dump() == {"together": "all"}  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["controls.1.draws", "controls.1.random.draws", "controls[1].draws"])
def test_a_control_is_reached_in_either_spelling(path: str):
    assert [c.draws for c in _spec(f"--{path}=7").controls] == [1, 7]


def test_a_sweep_can_be_set_replaced_and_reached_into():
    shots = "prompts: {shots: {sweep: [0, 4]}}\n"
    for text, argument, expected in [
        ("{}", "--prompts.shots={sweep: [1, 2]}", [1, 2]),
        (shots, "--prompts.shots.sweep=[5]", [5]),
        (shots, "--prompts.shots.sweep.1=6", [0, 6]),
        ("{}", "--prompts.shots.sweep=[5, 6]", [5, 6]),
    ]:
        assert load_study(text, parse_overrides([argument])).axes == {"prompts.shots": expected}
    assert load_study(shots, parse_overrides(["--prompts.shots=3"])).axes == {}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--interventions.positve.strength=2", "the spec has no intervention 'positve'; did you mean 'positive'?"),
        ("--interventions.positive.strenth=2", "unknown key 'strenth'; did you mean 'strength'?"),
        ("--prompts.shots.foo=3", "unknown key 'foo'; prompts.shots is a single value"),
        ("--promts.shots=3", "is neither a flag nor a field of the spec; did you mean '--prompts.shots'?"),
        ("--fressh", "is neither a flag nor a field of the spec; did you mean '--fresh'?"),
        ("--prompts.shots", "has no value; write --prompts.shots=VALUE"),
        ("--prompts.shots=four", "found the text 'four', expected a whole number; write a whole number such as 4"),
        ("--metrics.7=kl", "metrics has 3 entries, counted from 0; set it whole: --metrics=[…]"),
        ("--metrics.x=kl", "unknown key 'x'; metrics is a list, count its entries from 0"),
        ("--tasks.files.0=x", "tasks.files is no list in this spec; set it whole: --tasks.files=[…]"),
        ("--controls.1.random=3", "names a control, not a field of it; write draws behind it"),
        ("--prompts.template.input={input} ->", "the value '{input} ->' is no YAML (expected '<document start>', but found ('<scalar>',)); quote it for YAML as well: --prompts.template.input='\"…\"'"),
        ("--prompts.template.prefix=", "found nothing (null), expected text; remove it for its default"),
        ("--prompts..shots=3", "is no path of a field; write it as in --prompts.shots=4 or --metrics.0=kl"),
        ("--tasks.bits=.nan", "found nan, expected a finite number; write a number"),
        ("-x=3", "is no flag, expected --path=value; set a field as in --prompts.shots=4"),
        ("spec.yaml", "is no flag, expected --path=value; set a field as in --prompts.shots=4"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named_by_its_flag(argument: str, message: str):
    with pytest.raises(SpecError) as caught:
        load_study(SPEC, parse_overrides([argument], flags=["--quiet", "--fresh"]))
    assert str(caught.value) == f"{argument.split('=')[0]}: {message}"


def test_what_stands_deeper_in_an_override_is_named_behind_its_flag():
    for argument, where in [
        ("--prompts={queries: 0}", "--prompts.queries"),
        ("--prompts.shots={sweep: [0, x]}", "--prompts.shots.sweep[1]"),
        ("--metrics=[kl, 3]", "--metrics[1]"),
        ("--interventions.positive.layers=[1, 1]", "--interventions.positive.layers[1]"),
    ]:
        with pytest.raises(SpecError) as caught:
            load_study(SPEC, parse_overrides([argument]))
        assert caught.value.where == where


def test_a_field_of_a_section_that_is_swept_whole_is_refused():
    with pytest.raises(
        SpecError, match="--decodability.k: decodability is swept as a whole; set it whole: --decodability=…"
    ):
        load_study("decodability: {sweep: [null, {}]}\n", {"decodability.k": 3})


@pytest.mark.parametrize("other", ["--prompts.shots=4", "--prompts.shots=5"])
def test_a_path_given_twice_is_refused(other: str):
    with pytest.raises(SpecError, match="--prompts.shots: is given twice; keep one"):
        parse_overrides(["--prompts.shots=4", other])
    with pytest.raises(SpecError, match="is given twice"):
        parse_overrides(["--metrics.0=kl", "--metrics[0]=kl"])


@untimed
@given(st.lists(st.text("-ab.=[]0{}:'\n x", max_size=12), max_size=2))
def test_any_argument_is_an_override_or_one_line(arguments: list[str]):
    try:
        load_study(SPEC, parse_overrides([f"--tasks{a}" for a in arguments]))
    except SpecError as error:
        assert error.where and "\n" not in error.one_line()


def test_an_override_of_a_whole_section_may_hold_spaces():
    """argparse takes an unknown word with a space in it for a positional argument."""
    import argparse

    from patchboard.cli.arguments import overrides_apart

    parser = argparse.ArgumentParser()
    run = parser.add_subparsers().add_parser("run")
    run.add_argument("--model")
    given = ["run", "a.yaml", "--metrics=[accuracy, kl]", "--model=my folder", "--a.b={mean: same_task, shots: 1}"]
    overrides, others = overrides_apart(parser, given)
    assert overrides == ["--metrics=[accuracy, kl]", "--a.b={mean: same_task, shots: 1}"]
    assert others == ["run", "a.yaml", "--model=my folder"]


def test_flags_of_text_take_a_sweep_and_else_the_text_as_it_is():
    assert text_of_flag("{sweep: [step1, 512]}", "--revision") == {"sweep": ["step1", 512]}
    for text in ("1234567", "1e5", "null", "{x}", "a: b"):
        assert text_of_flag(text, "--revision") == text
