"""Sweep files: the shipped ones are whole, and what W&B would read otherwise, or cannot be run, is one line."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from patchboard.errors import SpecError
from patchboard.plan.validate import check_study
from patchboard.spec.load import load_study
from patchboard.spec.overrides import parse_overrides
from patchboard.sweeps.command import command_of
from patchboard.sweeps.file import SweepFile, load_sweep
from patchboard.sweeps.parameter import FIELDS, parameter_of
from patchboard.sweeps.search import grid_points, random_points, search_of
from tests.conftest import ROOT

SHIPPED = sorted((ROOT / "sweeps").glob("*.yaml"))
GOOD: dict[str, Any] = {
    "program": "experiments/patch_sweep.py",
    "method": "grid",
    "metric": {"name": "best/effect/a/accuracy", "goal": "maximize"},
    "parameters": {"prompts.shots": {"values": [0, 4]}, "interventions.a.strength": {"values": [0.5, 1, 2]}},
}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def loaded(folder: Path, **changes: Any) -> SweepFile:
    path = folder / "sweep.yaml"
    tree = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path.write_text(json.dumps(tree))  # JSON is YAML, and keeps the order
    return load_sweep(path)


def refused(folder: Path, **changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        loaded(folder, **changes)
    line = caught.value.one_line()
    return line.replace(f"{folder}/", "")


def points_of(sweep: SweepFile) -> list[Any]:
    return grid_points(sweep) if sweep.method == "grid" else random_points(sweep, 3)


def test_all_kinds_of_sweep_are_shipped():
    methods = Counter(load_sweep(path).method for path in SHIPPED)
    assert set(methods) == {"grid", "random", "bayes"}
    varied = {parameter.name for path in SHIPPED for parameter in load_sweep(path).varied}
    assert {"prompts.shots", "model.revision", "model.name"} <= varied
    assert {name.rsplit(".", 1)[-1] for name in varied} >= {"strength", "rank", "position"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_sweep_means_something_at_every_point(path):
    sweep = load_sweep(path)
    digests = set()
    for point in points_of(sweep):
        command = command_of(sweep.command, sweep.program, point, Path("out"))
        assert command[2] == sweep.program and command[4:6] == ["--wandb", "auto"] and command[-1] == "--out=out"
        study = load_study(Path(command[3]), parse_overrides(command[6:-1]))
        check_study(study)
        digests.add(study.digest)
        _, what, intervention, metric = str(sweep.metric).split("/")
        assert what == "effect" and intervention in study.tree["interventions"] and metric in study.tree["metrics"]
    assert len(digests) == len(points_of(sweep)), "every point is another run"


REFUSED = {
    "no key": ({"earlyterm": 1}, "sweep.yaml: earlyterm: is no key of a sweep file that is run here; "),
    "early end": ({"early_terminate": {"type": "hyperband"}}, "early_terminate: a run logs at its end, so there is no"),
    "method": ({"method": "gird"}, "sweep.yaml: method: found the text 'gird'; did you mean 'grid'?"),
    "program": ({"program": "no.py"}, "sweep.yaml: program: found the text 'no.py', expected a script's path from"),
    "no parameters": ({"parameters": {}}, "parameters: found an empty mapping, expected paths with values; add one"),
    "empty": ({"parameters": {"a": {}}}, "parameters.a: found an empty mapping, expected value, values or min and"),
    "nested": ({"parameters": {"a": {"parameters": {}}}}, "parameters.a: nested parameters reach no spec path; write"),
    "half": ({"parameters": {"a": {"min": 1}}}, "parameters.a: has neither value, values nor min and max; give one"),
    "unknown": ({"parameters": {"a": {"distribution": "beta"}}}, "distribution: distribution the text 'beta' is none"),
    "extra": ({"parameters": {"a": {"value": 1, "mx": 2}}}, "parameters.a.mx: constant has no such field; give value"),
    "upside down": ({"parameters": {"a": {"min": 2, "max": 1}}}, "parameters.a: min is 2 and max is 1; make max the"),
    "logarithm": (
        {"parameters": {"a": {"distribution": "log_uniform_values", "min": 0, "max": 1}}},
        "parameters.a.min: found 0, a logarithm needs more than 0; raise min",
    ),
    "true": ({"parameters": {"a": {"distribution": "uniform", "min": True, "max": 2}}}, "min: found true, expected a"),
    "macro": ({"command": ["${env}", "${agrs}"]}, "command: '${agrs}' is no macro that is known here; did you mean"),
    "within": ({"command": ["--x=${args}"]}, "command: '--x=${args}' is no macro that is known here; "),
    "out": ({"command": ["--out", "x"]}, "command: all points would share the folder of --out; remove it"),
    "cap": ({"run_cap": 0}, "run_cap: found the whole number 0, expected a whole number ≥ 1; write a number of points"),
    "goal": ({"metric": {"name": "a", "goal": "max"}}, "metric.goal: found the text 'max'; write minimize or maximize"),
    "no metric": ({"method": "bayes", "metric": None}, "metric: is missing, a Bayesian search needs one; add metric"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_run_is_one_line(tmp_path, case):
    changes, line = REFUSED[case]
    assert line in refused(tmp_path, **changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "values: [2:5]",
            "parameters: a: values[0]: W&B reads the whole number 125 (YAML 1.1), patchboard the text '2:5'",
        ),
        ("value: 1e-3", "parameters: a: value: W&B reads the text '1e-3' (YAML 1.1), patchboard the number 0.001"),
        ("value: on", "parameters: a: value: W&B reads true (YAML 1.1), patchboard the text 'on' (YAML 1.2)"),
    ],
)
def test_what_wandb_reads_otherwise_is_refused(tmp_path, text, says):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"program: experiments/patch_sweep.py\nmethod: grid\nparameters:\n  a: {{{text}}}\n")
    with pytest.raises(SpecError) as caught:
        load_sweep(path)
    assert says in caught.value.one_line()


def test_a_grid_is_the_product(tmp_path):
    points = grid_points(loaded(tmp_path))
    assert [tuple(point.values()) for point in points] == [(0, 0.5), (0, 1), (0, 2), (4, 0.5), (4, 1), (4, 2)]
    stepped = {"a": {"distribution": "q_uniform", "min": 0, "max": 1.0, "q": 0.25}, "b": {"min": 1, "max": 3}}
    values = {tuple(point.values()) for point in grid_points(loaded(tmp_path, parameters=stepped))}
    assert values == {(a, b) for a in (0, 0.25, 0.5, 0.75, 1.0) for b in (1, 2, 3)}


def test_a_grid_over_what_cannot_be_counted_and_a_search_without_an_end(tmp_path):
    with pytest.raises(SpecError, match="parameters.a: a grid over uniform has no end; give values, or method: random"):
        grid_points(loaded(tmp_path, parameters={"a": {"min": 0.0, "max": 1.0}}))
    for method in ("random", "bayes"):
        with pytest.raises(SpecError, match=f"--count: a {method} search has no end; give --count N, or run_cap"):
            search_of(loaded(tmp_path, method=method), None, tmp_path)


def test_a_cap_holds_for_a_grid_too(tmp_path):
    assert search_of(loaded(tmp_path, run_cap=4), None, tmp_path).count == 4
    assert search_of(loaded(tmp_path, run_cap=4), 2, tmp_path).count == 2
    assert search_of(loaded(tmp_path), 99, tmp_path).count == 6


def test_random_points_are_the_same_at_every_call_and_differ(tmp_path):
    sweep = loaded(tmp_path, method="random", parameters={"a": {"min": 0.0, "max": 1.0}, "b": {"values": [1, 2]}})
    points = random_points(sweep, 20)
    assert points == random_points(sweep, 20) and points[:5] == random_points(sweep, 5)
    assert len({tuple(point.values()) for point in points}) == 20
    few = loaded(tmp_path, method="random", parameters={"b": {"values": [1, 2]}})
    assert sorted(point["b"] for point in random_points(few, 20)) == [1, 2], "there are no more"


BOUNDS = {"min": 0.5, "max": 8.0, "q": 0.5}


@pytest.mark.parametrize("distribution", FIELDS)
def test_draws_keep_to_their_distribution(distribution):
    own = {"value": "x", "values": ["x", [1, 2]], "mu": 3.0, "sigma": 0.5, **BOUNDS}
    if distribution == "int_uniform":
        own |= {"min": 2, "max": 5}
    given_fields = {"distribution": distribution, **{field: own[field] for field in FIELDS[distribution]}}
    parameter = parameter_of("a", given_fields, "a")
    random = np.random.default_rng(0)
    drawn = [parameter.draw(random) for _ in range(4000)]
    if distribution == "constant":
        assert drawn == ["x"] * 4000
    elif distribution == "categorical":
        assert 1800 < sum(value == "x" for value in drawn) < 2200
    elif distribution == "normal":
        assert np.mean(drawn) == pytest.approx(3, abs=0.05) and np.std(drawn) == pytest.approx(0.5, abs=0.03)
    elif distribution == "int_uniform":
        assert Counter(drawn).keys() == {2, 3, 4, 5} and all(type(value) is int for value in drawn)
    else:
        low, high = (math.exp(own["min"]), math.exp(own["max"])) if distribution == "log_uniform" else (0.5, 8.0)
        assert low <= min(drawn) and max(drawn) <= high
        middle = math.sqrt(low * high) if "log" in distribution else (low + high) / 2
        # values rounded to q fall on the middle itself, so its half counts for both sides
        below = np.mean(np.array(drawn) < middle) + np.mean(np.array(drawn) == middle) / 2
        assert below == pytest.approx(0.5, abs=0.04)
        if distribution.startswith("q_"):
            assert all(float(2 * value).is_integer() for value in drawn)


@given(low=st.integers(-50, 50), width=st.integers(1, 50), q=st.integers(1, 7))
def test_whole_steps_stay_whole(low, width, q):
    parameter = parameter_of("a", {"distribution": "q_uniform", "min": low, "max": low + width, "q": q}, "a")
    value = parameter.draw(np.random.default_rng(low + 50))
    assert type(value) is int and value % q == 0, "a spec takes no 4.0 for 4"


def test_the_digest_is_of_what_points_share(tmp_path):
    base = loaded(tmp_path)
    longer = loaded(tmp_path, parameters={"prompts.shots": {"values": [0, 1, 2, 4]}}, method="random", run_cap=3)
    assert base.digest == longer.digest, "a longer grid finds the points that are there"
    assert loaded(tmp_path, command=["${interpreter}", "${program}", "${args}"]).digest != base.digest
    spec = tmp_path / "own.yaml"
    digests = set()
    for text in ("version: 1\n", "version: 1\nname: other\n"):
        spec.write_text(text)
        digests.add(loaded(tmp_path, command=["${interpreter}", "${program}", str(spec), "${args}"]).digest)
    assert len(digests) == 2, "points of another spec are other points"


def test_arguments_are_written_as_wandb_writes_them():
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    point = {
        "tasks.only": ["x", "y"],
        "tasks.a": True,
        "tasks.b": False,
        "tasks.c": None,
        "tasks.d": 0.5,
        "layers": "text",
    }
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
    assert command_of(["${args}"], "p.py", point, Path("o"))[:-1] == theirs["args"]


def test_the_example_in_the_docs_is_the_shipped_file():
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    shipped = (ROOT / "sweeps" / "strength_shots.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(example) == yaml.safe_load(shipped)
    assert set(re.findall(r"^\| `sweeps/(\w+)\.yaml` \|", page, re.MULTILINE)) == {path.stem for path in SHIPPED}
    told = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| `", page, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(told))) == set(FIELDS)
