"""CD, accuracy and effect against the size of models: both counts, the power law, and runs that can be compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from patchboard.experiments.scaling.experiment import Scaling, exponent
from patchboard.spec import load_study
from tests.conftest import ROOT
from tests.scripts import SMALL_STUDY, ran


def accuracies(sizes: list[int], values: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"parameters": sizes, "value": values})


@pytest.mark.parametrize("power", [0.3, 1.5])
def test_a_planted_power_of_the_error_is_found(power):
    sizes = [1000, 7000, 9000, 120_000, 10**6]
    found = exponent(accuracies(sizes, [1 - 4 * n**-power for n in sizes]), "parameters")
    assert found is not None and (found["exponent"], found["r2"], found["n"]) == pytest.approx((power, 1, 5))
    # a model without an error has no logarithm
    with_perfect = exponent(accuracies([*sizes, 10**7], [*(1 - 4 * n**-power for n in sizes), 1.0]), "parameters")
    assert with_perfect == found


def test_the_power_is_the_least_squares_slope_of_two_logarithms():
    sizes, values = [1000, 5000, 20_000, 10**6], [0.1, 0.5, 0.4, 0.9]
    found = exponent(accuracies(sizes, values), "parameters")
    assert found is not None
    slope, intercept = np.polyfit(np.log(sizes), np.log(1 - np.array(values)), 1)
    residual = np.log(1 - np.array(values)) - intercept - slope * np.log(sizes)
    spread = ((np.log(sizes) - np.log(sizes).mean()) ** 2).sum()
    stderr = np.sqrt((residual**2).sum() / (4 - 2) / spread)
    assert (found["exponent"], found["stderr"]) == pytest.approx((-slope, stderr))


@pytest.mark.parametrize(
    ("sizes", "values"),
    [([10, 20], [0.1, 0.2]), ([10, 20, 30], [0.1, 0.2, 1.0]), ([10, 10, 10], [0.1, 0.2, 0.3])],
    ids=["two models", "two that err", "one size"],
)
def test_a_line_through_two_sizes_is_no_power_law(sizes, values):
    assert exponent(accuracies(sizes, values), "parameters") is None


SHAPES = {"small": dict(n_embd=24, n_layer=2), "middle": dict(n_embd=32, n_layer=3), "large": dict(n_embd=48)}


def script(*arguments: object) -> tuple[int, str, str]:
    return ran("scaling.py", *map(str, arguments))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    """Random models of three sizes, one of another family."""
    from tests.models import random_model, save

    parent = tmp_path_factory.mktemp("models")
    made = {name: random_model("gpt2", **shape) for name, shape in SHAPES.items() if name != "middle"}
    made["middle"] = random_model("llama", hidden_size=32, num_hidden_layers=3)
    for name in SHAPES:
        save(made[name], parent / name)
    return [parent / name for name in SHAPES]


@pytest.fixture(scope="module")
def runs(models, tmp_path_factory) -> list[Path]:
    """A run a model, of the script's own spec."""
    from patchboard.commands.main import main

    spec, parent = ROOT / "experiments" / "specs" / "scaling.yaml", tmp_path_factory.mktemp("runs")
    for model in models:
        out = str(parent / model.name)
        assert main(["run", str(spec), "--model", str(model), *SMALL_STUDY, "--out", out, "--quiet"]) == 0
    return [parent / model.name for model in models]


def sized(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "sized.parquet")


@pytest.mark.slow
def test_finished_runs_are_told_by_both_counts(runs, models, tmp_path):
    out = tmp_path / "compared"
    asked = (*runs[1:], "--out", out, runs[0])
    status, told, error = script(*asked)
    assert (status, error) == (0, "") and told.endswith(f"report: {out / 'report.html'}\n")
    table, summary = sized(out), json.loads((out / "summary.json").read_text())
    for model, run in zip(models, runs, strict=True):
        own = table.filter(model=str(model))
        config = json.loads((model / "config.json").read_text())
        width = config.get("n_embd") or config["hidden_size"]
        embedding = 83 * width + 128 * width if "n_embd" in config else 2 * 83 * width
        assert set(own["parameters"] - own["non_embedding"]) == {embedding}
        cd = pl.read_parquet(run / "decodability.parquet").filter(shots=2)
        best = cd.filter(task="ALL").sort("cd", "layer", descending=[True, False]).row(0, named=True)
        found = {(row["measure"], row["control"]): row for row in own.iter_rows(named=True)}
        assert len(found) == own.height == 4
        assert (found["CD", ""]["value"], found["CD", ""]["layer"]) == (best["cd"], best["layer"])
        right = cd.filter(pl.col("task").is_in(["AND", "OR", "XOR"]), layer=0)
        assert found["accuracy", ""]["value"] == pytest.approx(right["accuracy"].mean())
        point = json.loads((run / "summary.json").read_text())["interventions"]["added"]
        for control, entry in {"": point, "random": point["controls"]["random"]}.items():
            row = found["added", control]
            assert [row["value"], row["low"], row["n"]] == [entry[name] for name in ("effect", "ci_low", "n")]
    for entry in summary["with_size"]:
        part = table.filter(measure=entry["measure"], control="")
        if part["value"].n_unique() > 1:
            wanted = spearmanr(part[entry["count"]], part["value"]).statistic
            assert (entry["spearman"], entry["n"]) == (pytest.approx(wanted), 3)
    before = {each: each.stat().st_mtime_ns for each in out.iterdir()}
    assert script(*asked)[1] == told
    assert {each: each.stat().st_mtime_ns for each in out.iterdir()} == before


@pytest.mark.slow
def test_a_run_of_several_models_says_what_runs_of_one_say(runs, models, tmp_path):
    swept = "--model.name={sweep: [" + ", ".join(str(model) for model in models) + "]}"
    status, told, error = script(swept, *SMALL_STUDY, "--out", tmp_path / "swept")
    assert (status, error) == (0, "") and "the run's own" in told
    script(*runs, "--out", tmp_path / "compared")
    swept_ones, single_ones = sized(tmp_path / "swept" / "experiment"), sized(tmp_path / "compared")
    drawn = pl.col("control") == "random"  # anew for each setting of a sweep
    assert swept_ones.filter(~drawn).equals(single_ones.filter(~drawn))
    assert swept_ones.filter(drawn).height == single_ones.filter(drawn).height == 3


def test_the_embedded_model_stands_for_itself_and_its_siblings(models, monkeypatch):
    study = load_study(ROOT / "experiments" / "specs" / "scaling.yaml")
    monkeypatch.chdir(models[0].parents[1])
    found = Scaling(models[0].parent).prepare(study)
    siblings = [f"{models[0].parent.name}/{name}" for name in ("large", "middle", "small")]
    assert found.axes == {"model.name": [*siblings, "embedded"]}
    assert {point.spec.model.dtype for point in found.points} == {"float32"}


def changed(run: Path, out: Path, **entries: object) -> Path:
    """A copy of a run with another manifest."""
    shutil.copytree(run, out)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, **entries}))
    return out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("{0}",), "has one model, expected several"),
        (("{0}", "{0}/../small"), "has one model, expected several"),
        (("{0}", "{copy}"), "copy: has the model"),
        (("{0}", "{unfinished}"), "unfinished: holds an unfinished run"),
        (("{0}", "{old}"), "old: does not tell how many parameters of m embed: an older version made it"),
        (("{0}", "{other}"), 'other: has tasks.meant ["{\\"bits\\": 5'),
        (("{0}", "{empty}"), "empty/spec.yaml: is missing: no finished run is here"),
        (("{0}", "{1}", "--prompts.shots=2"), "--prompts.shots: changes a run, and these are finished"),
        (("{0}", "--layers", "2", "{1}"), "--layers: changes a run"),
        (("{0}", "{1}", "--remote"), "--remote: changes a run"),
        (("{0}", "my.yaml"), "my.yaml: is no run folder, and others are given"),
        (("my.yaml",), "my.yaml: there is no such file"),
        (("my.yaml", "yours.yaml"), "error: "),
        (("--model", "{model}"), "is one model, expected several; write {sweep: [A, B]}"),
        (("--prompts.shots={sweep: [0, 4]}", "--model.name={sweep: [a, b]}"), "prompts.shots: is swept, expected mod"),
        (("--decodability=null", "--model.name={sweep: [a, b]}"), "decodability: is null"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_nothing_is_written(arguments, told, runs, models, tmp_path):
    one = json.loads((runs[1] / "manifest.json").read_text())
    places = {
        "copy": changed(runs[0], tmp_path / "copy"),
        "unfinished": changed(runs[1], tmp_path / "unfinished", status="running"),
        "old": changed(runs[1], tmp_path / "old", models=[{"name": "m", "family": "llama"}]),
        "other": changed(runs[1], tmp_path / "other", tasks=[{**one["tasks"][0], "bits": 5}]),
        "empty": tmp_path / "empty",
        "model": models[0],
    }
    places["empty"].mkdir()
    given = [each.format(*runs, **places) if each.startswith("{") else each for each in arguments]
    status, output, error = script(*given, "--out", tmp_path / "compared")
    assert status == 2 and not output and error.count("\n") == 1, error
    assert told in error
    assert not (tmp_path / "compared").exists()


@pytest.mark.slow  # some 3 s: two comparisons are drawn
def test_other_contents_of_the_runs_are_another_comparison(runs, tmp_path):
    again = changed(runs[0], tmp_path / "again")
    out = tmp_path / "compared"
    assert script(again, runs[1], "--out", out)[0] == 0
    (again / "summary.json").write_text((again / "summary.json").read_text() + "\n")
    status, _, error = script(again, runs[1], "--out", out)
    assert status == 2 and "compared: holds a run of another spec" in error
    assert script(again, runs[1], "--out", out, "--fresh")[0] == 0
