"""What is registered: by whom, refused where it clashes or lacks something, there only for studies that name it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import jsonschema
import pytest

import patchboard as pb
from patchboard.cli.arguments import Parser
from patchboard.cli.flags_study import study_of_flags
from patchboard.cli.run_flags import add_run_flags, parse_flags
from patchboard.commands.main import main
from patchboard.errors import PatchboardError, PluginError, SpecError
from patchboard.ops import OPS
from patchboard.plan.validate import check_study
from patchboard.spec import study_of
from patchboard.spec.load import load_study
from tests.plugins.conftest import CLAMP

CLAMPED = {"interventions": {"a": {"op": "clamp", "vector": {"mean": "same_task"}}}}


def line_of(action, *args) -> str:
    with pytest.raises(PatchboardError) as refused:
        action(*args)
    line = refused.value.one_line()
    assert str(refused.value) == line, "one line"
    return line


def test_a_study_has_the_pieces_of_its_own_plugins_only(plugin):
    path = plugin()
    named = study_of({**CLAMPED, "plugins": [str(path)]})
    plain = study_of(CLAMPED)
    assert "unknown op 'clamp'" in line_of(check_study, plain), "pieces of another study's file leak into this one"
    check_study(named)
    assert OPS["clamp"].neutral == 0.0
    assert named.digest == plain.digest, "where a plug-in lies is no science"


def test_two_files_may_use_one_name_in_two_studies(plugin):
    first, second = plugin(), plugin(CLAMP.replace("0.0", "2.0"), "other.py")
    studies = [study_of({**CLAMPED, "plugins": [str(path)]}) for path in (first, second)]
    for study, neutral in zip([*studies, *studies], (0.0, 2.0) * 2, strict=True):
        check_study(study)
        assert OPS["clamp"].neutral == neutral
    line = line_of(study_of, {**CLAMPED, "plugins": [str(first), str(second)]})
    assert line.startswith(f"op 'clamp': is registered by {first} and {second}; ")


def test_an_edited_file_is_read_again(plugin):
    path = plugin()
    study = study_of({**CLAMPED, "plugins": [str(path)]})
    plugin(CLAMP.replace("0.0", "2.0"))
    check_study(study)
    assert OPS["clamp"].neutral == 2.0


def test_an_edited_module_beside_the_file_is_read_again(plugin):
    plugin("LIMIT = 1.0\n", "limits_of_mine.py")
    path = plugin(CLAMP.replace("LIMIT = 1.0", "from limits_of_mine import LIMIT").replace("0.0", "LIMIT"))
    path.write_text("from limits_of_mine import LIMIT\n" + path.read_text(), encoding="utf-8")
    study = study_of({**CLAMPED, "plugins": [str(path)]})
    assert OPS["clamp"].neutral == 1.0
    plugin("LIMIT = 3.0\n", "limits_of_mine.py")
    check_study(study)
    assert OPS["clamp"].neutral == 3.0


def test_modules_of_one_name_beside_two_files_are_two(plugin, tmp_path):
    text = "from values_of_mine import NEUTRAL\n" + CLAMP.replace("0.0", "NEUTRAL")
    for folder, neutral in (("a", 1.0), ("b", 2.0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "values_of_mine.py").write_text(f"NEUTRAL = {neutral}\n")
        study = study_of({**CLAMPED, "plugins": [str(plugin(text, f"{folder}/my_ops.py"))]})
        check_study(study)
        assert OPS["clamp"].neutral == neutral


def test_our_own_names_cannot_be_taken(plugin):
    path = plugin(CLAMP.replace('"clamp"', '"patch"'))
    line = line_of(study_of, {"plugins": [str(path)]})
    assert line == (f"{path}:5: op 'patch': is registered by patchboard and {path}; give one of them another name")
    assert OPS["patch"].__module__ == "patchboard.ops.patch"


def test_a_piece_that_is_defined_again_replaces_itself_and_another_does_not():
    def op_of(neutral):
        @pb.register.op("again", operand="none", neutral=neutral)
        def again(h, operand, strength):
            return h

    op_of(1.0), op_of(2.0)  # as a cell that is run twice
    assert OPS["again"].neutral == 2.0

    def other(h, operand, strength):
        return h

    line = line_of(pb.register.op("again", operand="none", neutral=0.0), other)
    assert line.startswith(f"op 'again': is registered twice by {__file__}; ")
    assert OPS.enrolment("again").origin.kind == "session"


WRONG = {
    "no operand": (
        "neutral = 0.0",
        "has no 'operand', expected one of vector, subspace, features, state",
    ),
    "another operand": ('operand, neutral = "vectors", 0.0', "its 'operand' is 'vectors', expected one of vector"),
    "no neutral": ('operand = "vector"', "has no 'neutral', expected the strength that changes nothing, a number; add"),
    "neutral as text": ('operand, neutral = "vector", "0"', "its 'neutral' is '0', expected the strength"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_op_that_lacks_something_is_refused_with_it(plugin, case):
    body, expected = WRONG[case]
    path = plugin(CLAMP.replace('operand, neutral = "vector", 0.0', body))
    assert line_of(study_of, {"plugins": [str(path)]}).startswith(f"{path}:5: op 'clamp': {expected}")


def test_functions_with_other_arguments_are_refused(plugin):
    line = line_of(study_of, {"plugins": [str(plugin(CLAMP.replace("(h, operand", "(self, h, operand")))]})
    assert "'apply' takes (self, h, operand, strength), expected (h, operand, strength); make it a @static" in line
    line = line_of(study_of, {"plugins": [str(plugin(CLAMP.replace("def apply", "def aply")))]})
    assert line.endswith("op 'clamp': has no function 'apply'; add def apply(h, operand, strength)")
    line = line_of(pb.register.op("bare"), lambda h, operand, strength: h)
    assert line == "op 'bare': is a function, and its 'operand' is not given; write @register.op(\"bare\", operand=…)"
    assert "found the name 'a/b', expected letters" in line_of(pb.register.op, "a/b")
    line = line_of(pb.register.metric("m"), type("M", (), {"score": len}))
    assert line == "metric 'm': has no 'unit', expected what it is measured in, as text; add unit = \"nats\""
    line = line_of(pb.register.task("t", tasks=["a"]), lambda: [])
    assert "takes (), expected (seed)" in line
    line = line_of(pb.register.family("f"), type("F", (), {"block": "h"}))
    assert line.startswith("family 'f': has a field 'block', a family has decoder, blocks, norm")


BROKEN = {
    "syntax": ("import patchboard\ndef f(:\n", 2, "SyntaxError: invalid syntax"),
    "a name": ("import patchboard\n\nfoo.bar\n", 3, "NameError: name 'foo' is not defined"),
    "an exit": ("import sys\nsys.exit(3)\n", 2, "SystemExit: 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_that_fails_is_one_line_with_its_line(plugin, case):
    text, line, what = BROKEN[case]
    path = plugin(text)
    assert line_of(study_of, {"plugins": [str(path)]}) == (
        f"{path}:{line}: cannot be read as a plug-in ({what}); mend that line"
    )


def test_other_files_are_refused(plugin, tmp_path):
    plugin()
    missing = tmp_path / "my_op.py"
    line = line_of(study_of, {"plugins": [str(missing)]})
    assert line == f"{missing}: there is no such file; did you mean 'my_ops.py'?"
    assert "registers nothing" in line_of(study_of, {"plugins": [str(plugin("x = 1\n"))]})
    assert line_of(study_of, {"plugins": "a.py"}).startswith("plugins: found the text 'a.py', expected a list of files")


def test_paths_are_relative_to_the_spec_and_on_the_command_line_to_the_folder(plugin, tmp_path, monkeypatch):
    path = plugin()
    spec = tmp_path / "spec.yaml"
    spec.write_text("plugins: [my_ops.py]\ninterventions: {a: {op: clamp, vector: {mean: same_task}}}\n")
    monkeypatch.chdir(Path(__file__).parent)
    assert load_study(spec).plugins == (path,)
    spec.write_text("interventions: {a: {op: clamp, vector: {mean: same_task}}}\n")
    assert load_study(spec, {"plugins": [str(path)]}).plugins == (path,)
    monkeypatch.chdir(tmp_path)
    assert load_study(spec, {"plugins": ["my_ops.py"]}).plugins == (path,)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_study(spec, {"plugins": ["~/my_ops.py"]}).plugins == (path,)


def test_suggestions_know_pieces_of_plugins(plugin):
    study = study_of({"interventions": {"a": {"op": "clmp"}}, "plugins": [str(plugin())]})
    assert line_of(check_study, study) == "interventions.a.op: unknown op 'clmp'; did you mean 'clamp'?"


def _run_parser() -> Parser:
    parser = Parser()
    parser.add_argument("spec")
    add_run_flags(parser)
    return parser


def test_every_command_line_takes_them(plugin, tmp_path, capsys):
    path, spec = plugin(), tmp_path / "spec.yaml"
    spec.write_text("interventions: {a: {op: clamp, vector: {mean: same_task}, layers: [1]}}\n")
    assert main(["validate", str(spec)]) == 2
    assert "unknown op 'clamp'" in capsys.readouterr().err
    assert main(["validate", str(spec), "--plugins", str(path)]) == 0
    args, rest = parse_flags(_run_parser(), [str(spec), f"--plugins={path}"])
    assert study_of_flags(args, rest).plugins == (path,)
    capsys.readouterr()
    assert main(["ls", "--plugins", str(path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  clamp ")]
    assert line == f"  clamp            h moved towards the vector, by at most 1 a coordinate. (from {path})"
    assert main(["schema", "--plugins", str(path)]) == 0
    schema = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    schema.validate({"interventions": {"a": {"op": "clamp"}}, "plugins": ["my_ops.py"]})
    assert main(["schema"]) == 0
    schema = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    schema.validate({"interventions": {"a": {"op": "zero"}}})
    assert not schema.is_valid({"interventions": {"a": {"op": "clamp"}}})


def test_an_installed_distribution_brings_pieces(tmp_path, monkeypatch):
    (tmp_path / "pieces_of_a_lib.py").write_text(CLAMP)
    info = tmp_path / "somelib-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somelib\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[patchboard.plugins]\npieces = pieces_of_a_lib\n")
    monkeypatch.syspath_prepend(tmp_path)
    check_study(study_of(CLAMPED))
    assert OPS.enrolment("clamp").origin.name == "somelib 1.2"
    line = line_of(pb.register.op("clamp", operand="none", neutral=0.0), lambda h, operand, strength: h)
    assert line.startswith(f"op 'clamp': is registered by somelib 1.2 and {__file__}; ")


def test_what_may_be_left_out_of_a_metric_is_filled_in():
    import numpy as np

    from patchboard.metrics import METRICS

    @pb.register.metric("first_logit", unit="logits")
    def first_logit(logits, target, foil, clean):
        return logits[:, 0]

    made = METRICS["first_logit"]
    assert made.answers_of == "own" and made.combine(np.array([3.0, 4.0, 5.0]), np.array([0, 2])).tolist() == [3, 5]
    assert made.either(np.array([1.0]), np.array([2.0])).tolist() == [1]
    assert made.score is first_logit and inspect.isfunction(first_logit)


def test_a_family_of_one_function_has_a_null_of_other_items():
    from patchboard.spec.sections import TasksSection
    from patchboard.tasks.base import NULL, Item
    from patchboard.tasks.resolve import build_family

    @pb.register.task("letters", tasks=["upper", "twice"])
    def letters(seed):
        return [Item(a, {"upper": a.upper(), "twice": a + a}) for a in "abcdefgh"]

    pool = build_family(TasksSection(family="letters"), embedded=False).pool(0)
    assert [item.answers["upper"] for item in pool] == [*"ABCDEFGH"]
    for item in pool:
        assert item.answers[NULL][0].lower() != item.input and item.answers[NULL][0].lower() in "abcdefgh"
    other = build_family(TasksSection(family="letters"), embedded=False).pool(1)
    assert [i.answers[NULL] for i in other] != [i.answers[NULL] for i in pool]
    (one,) = {frozenset(i.answers) for i in build_family(TasksSection(family="letters", only=["twice"]), False).pool(0)}
    assert one == {"twice", NULL}


def test_a_model_family_is_a_row_of_the_table():
    from patchboard.engine.families import ARCHITECTURES, Architecture

    @pb.register.family("my_llama")
    class MyLlama:
        blocks = "h"
        packs = False

    assert ARCHITECTURES["my_llama"] == Architecture("my_llama", blocks="h", packs=False)


def test_errors_are_typed():
    assert issubclass(PluginError, PatchboardError) and PluginError.exit_status == 2
    with pytest.raises(SpecError):
        study_of({"plugins": [1]})
