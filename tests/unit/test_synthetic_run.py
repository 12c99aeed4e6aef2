"""The experiment on sparse regression, small: resumed is uninterrupted, packed is row by row, wrong YAML one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from patchboard.errors import EngineError, RunFolderError, SpecError
from patchboard.execution.options import Options
from patchboard.experiment.settings import load_settings
from patchboard.experiments.synthetic.checkpoint import CheckpointEngine
from patchboard.experiments.synthetic.experiment import Synthetic
from patchboard.experiments.synthetic.model import build_model
from patchboard.experiments.synthetic.questions import questions_of, sequences_of
from patchboard.experiments.synthetic.settings import SyntheticSettings, study_in
from patchboard.experiments.synthetic.training import loss_curve, tasks_at, trainer_of
from patchboard.measure.statistics import Bootstrap
from patchboard.tasks.linear_regression import token_inputs
from tests.scripts import ran

ROOT = Path(__file__).parents[2]
SPEC = """
version: 1
name: tiny
data: {inputs: 3, pairs: 4, noise: 0.1, tasks: {a: {coordinates: [0, 1]}, b: {coordinates: [1, 2]}}}
model: {layers: 2, width: 16, heads: 2, spread: 0.3}
training: {steps: 130, batch: 8, learning_rate: 0.003, betas: [0.9, 0.98], warmup: 5, clip: 1, optimiser: muon}
checkpoints: {first: 30, count: 3, sequences: 12}
study:
  prompts: {queries: 6}
  interventions:
    vector: {op: patch, vector: {mean: {sweep: [a, b]}, shots: 3, prompts: 8}}
    swapped: {op: resample, source: same_task, position: [demo_outputs, last]}
    head: {op: zero, site: head, position: all}
  controls: [self]
  decodability: {k: 3, prompts: 8, shots: [0, 3]}
  statistics: {bootstrap: 100}
"""
BOOTSTRAP = Bootstrap(100, 0.95, 0)
CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def small(file):
    return load_settings(SyntheticSettings, file)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    (folder / "tiny.yaml").write_text(SPEC)
    return run(folder / "tiny.yaml", folder / "out")


def run(file, out):
    return Synthetic().run(load_settings(SyntheticSettings, file), Options(out, device="cpu"))


def engine_of(settings, way="auto"):
    model = build_model(settings.model, settings.data.inputs, settings.data.pairs, 0).eval()
    return CheckpointEngine(model, questions_of(settings, study_in(settings)), BOOTSTRAP, way)


def test_a_stopped_training_goes_on_to_the_same_numbers(small, tmp_path):
    whole = trainer_of(small, tmp_path / "whole.pt", CPU)
    whole.train_to(130)
    killed = trainer_of(small, tmp_path / "parts.pt", CPU)
    killed.train_to(71)
    killed.save()
    resumed = trainer_of(small, tmp_path / "parts.pt", CPU)
    assert resumed.step == 71
    resumed.train_to(130)
    assert resumed.losses == whole.losses and len(set(whole.losses)) == 130
    assert loss_curve(whole.losses).rows() == [
        (step, pytest.approx(np.mean(whole.losses[step - 50 : step]), rel=1e-6)) for step in (50, 100)
    ]
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    untrained = trainer_of(small, tmp_path / "none.pt", CPU).weights["read_in.weight"]
    assert not torch.equal(whole.weights["read_in.weight"], untrained)


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_tables(file, finished, tmp_path):
    """Killed by the operating system while it trains, and once more by taking away what it had examined."""
    out = tmp_path / "out"
    code = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from patchboard.experiment.settings import load_settings
from patchboard.execution.options import Options
from patchboard.experiments.synthetic.experiment import Synthetic
from patchboard.experiments.synthetic.settings import SyntheticSettings
def tick(phase, done, of):
    if phase == "training" and done == 80:
        os.kill(os.getpid(), 9)
settings = load_settings(SyntheticSettings, Path({str(file)!r}))
Synthetic().run(settings, Options(Path({str(out)!r}), device="cpu", tick=tick))
"""
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums of other threads round in another way
    killed = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, env=os.environ | threads)
    assert killed.returncode == -9, killed.stderr.decode()
    assert json.loads((out / "manifest.json").read_text())["status"] == "running"
    (out / "parts" / "step30-outcomes.parquet").unlink()
    run(file, out)
    for name in ("errors", "decodability", "outcomes", "effects", "training", "baselines"):
        assert pl.read_parquet(out / f"{name}.parquet").equals(pl.read_parquet(finished / f"{name}.parquet")), name
    assert (out / "summary.json").read_text() == (finished / "summary.json").read_text()


@pytest.mark.slow
def test_a_lost_checkpoint_is_not_replaced_by_a_later_one(file, finished, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    manifest = json.loads((out / "manifest.json").read_text()) | {"status": "running"}
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / "checkpoints" / "step30.safetensors").unlink()
    with pytest.raises(RunFolderError, match="step30.safetensors: is missing"):
        run(file, out)


def test_packed_cells_are_whole_rows_and_self_changes_nothing(small):
    keys = ["step", "task", "query", "intervention", "control", "vector_task", "layer", "head"]
    tables = {}
    for way in ("auto", "wavefront", "rows"):
        engine = engine_of(small, way)
        found = engine.measure(1)
        assert found.drift < 1e-5
        tables[way] = found.outcomes.sort(keys)
    for way in ("auto", "wavefront"):
        for column in ("clean", "patched"):
            np.testing.assert_allclose(tables[way][column], tables["rows"][column], atol=1e-5)
    moved = (pl.col("patched") - pl.col("clean")).abs()
    by_self = tables["auto"].group_by(pl.col("control") == "self").agg(moved.max())
    assert dict(by_self.iter_rows())[True] < 1e-5 < 1e-2 < dict(by_self.iter_rows())[False]


@torch.no_grad()
def test_a_cell_is_what_hooks_on_the_model_give(small):
    """The mean of a task's fit states, put in place of one sequence's state by hand."""
    engine = engine_of(small)
    outcomes = engine.measure(1).outcomes
    mixture, model = small.data.mixture, engine.model
    blocks = model.language.transformer.h

    def predicted(sequence, layer=None, vector=None):
        """(last prediction, last state after the layer) with the state replaced if a vector is given."""
        seen = []

        def change(_, __, output):
            h = (output[0] if isinstance(output, tuple) else output).clone()
            seen.append(h[0, 6].clone())
            if vector is not None:
                h[0, 6] = vector
            return (h, *output[1:]) if isinstance(output, tuple) else h

        handle = blocks[layer].register_forward_hook(change)
        tokens = torch.from_numpy(token_inputs(sequence[0][None], sequence[1][None]))
        y = model.predictions(tokens)[0, -1].item()
        handle.remove()
        return y, seen[0]

    fit, evaluated = (sequences_of(mixture, use, count, 0) for use, count in (("fit", 8), ("evaluate", 6)))
    compared = 0
    for layer in (0, 1):
        means = {
            drawn.task: torch.stack([predicted(s, layer)[1] for s in zip(drawn.x, drawn.y, strict=True)]).mean(0)
            for drawn in fit
        }
        for drawn in evaluated:
            for target, mean in means.items():
                own = outcomes.filter(
                    pl.col("intervention") == "vector", pl.col("control") == "", pl.col("task") == drawn.task,
                    pl.col("vector_task") == target, pl.col("layer") == layer,
                ).sort("query")  # fmt: skip
                for s, row in zip(zip(drawn.x, drawn.y, strict=True), own.iter_rows(named=True), strict=True):
                    assert row["clean"] == pytest.approx((predicted(s, layer)[0] - s[1][-1]) ** 2, abs=1e-5)
                    assert row["patched"] == pytest.approx((predicted(s, layer, mean)[0] - s[1][-1]) ** 2, abs=1e-5)
                    compared += abs(row["patched"] - row["clean"]) > 1e-3
    assert compared > 20


@torch.no_grad()
def test_errors_are_of_predictions_from_the_pairs_before(small):
    """A later pair does not change an earlier error, and each is the literal squared difference."""
    engine = engine_of(small)
    drawn = engine.questions.tests[1]
    errors = engine.errors(drawn)
    for s in (0, 5):
        for n in range(4):
            tokens = torch.from_numpy(token_inputs(drawn.x[s : s + 1, : n + 1], drawn.y[s : s + 1, : n + 1]))
            tokens[0, -1] = 7.0  # the answer itself, which must not be seen
            assert errors[s, n] == pytest.approx(
                (engine.model.predictions(tokens)[0, -1].item() - drawn.y[s, n]) ** 2, rel=1e-4
            )


def test_a_model_that_broke_is_not_reported(small):
    engine = engine_of(small)
    with torch.no_grad():
        engine.model.language.lm_head.weight.fill_(float("nan"))
    with pytest.raises(EngineError, match="not a number"):
        engine.measure(3)


def test_sequences_of_different_uses_differ(small):
    drawn = [sequences_of(small.data.mixture, use, 4, 0)[0].x for use in ("test", "evaluate", "fit", "decodability")]
    assert len({each.tobytes() for each in drawn}) == 4


def test_tasks_join_one_by_one(small):
    training = small.training.model_copy(update={"one_by_one": 40})
    staged = small.model_copy(update={"training": training})
    assert [tasks_at(step, staged) for step in (0, 39, 40, 200)] == [1, 1, 2, 2]
    assert tasks_at(0, small) == 2


def test_the_rate_rises_and_falls(small, tmp_path):
    def rate_with(**fields):
        training = small.training.model_copy(update={"steps": 100, **fields})
        return trainer_of(small.model_copy(update={"training": training}), tmp_path / "none.pt", CPU).rate_at

    rate_at = rate_with(warmup=10, cooldown=50)
    assert [rate_at(step) for step in (0, 4, 9, 49, 75, 99)] == [0.1, 0.5, 1, 1, 0.5, 0.02]
    assert set(map(rate_with(warmup=0, cooldown=0), range(100))) == {1}


def test_a_finished_folder_tells_all(finished):
    effects = pl.read_parquet(finished / "effects.parquet")
    assert set(effects["step"]) == {30, 62, 130} == set(pl.read_parquet(finished / "errors.parquet")["step"])
    assert (finished / "report.html").read_text().rstrip().endswith("</html>")
    summary = json.loads((finished / "summary.json").read_text())
    last = pl.read_parquet(finished / "errors.parquet").filter(
        pl.col("step") == 130, pl.col("task") == "a", pl.col("pair").is_null()
    )
    assert summary["tasks"]["a"]["error"]["error"] == last["error"][0]
    names = {path.stem for path in (finished / "figures").iterdir()}
    assert names == {"emergence", "curves", "layers", "matrix-vector", "heads-head"}


def test_a_matrix_is_of_odd_queries_at_the_layer_that_even_ones_choose(finished):
    rows = pl.read_parquet(finished / "outcomes.parquet").filter(
        pl.col("intervention") == "vector", pl.col("control") == "", pl.col("step") == 130
    )

    def mean(task, vector_task, layer, odd):
        values = [
            row["patched"] - row["clean"]
            for row in rows.iter_rows(named=True)
            if (row["task"], row["vector_task"], row["layer"], row["query"] % 2) == (task, vector_task, layer, odd)
        ]
        assert len(values) == 3
        return sum(values) / 3

    def contrast(layer):
        return mean("a", "b", layer, 0) + mean("b", "a", layer, 0) - mean("a", "a", layer, 0) - mean("b", "b", layer, 0)

    layer = max((0, 1), key=contrast)
    found = json.loads((finished / "summary.json").read_text())["matrix"]["vector"]
    assert found["layers"] == str(layer)
    for cell in found["cells"]:
        assert cell["effect"] == pytest.approx(mean(cell["task"], cell["vector_task"], layer, 1), abs=1e-9)
    assert found["own"] == pytest.approx((mean("a", "a", layer, 1) + mean("b", "b", layer, 1)) / 2, abs=1e-9)
    assert found["other"] == pytest.approx((mean("a", "b", layer, 1) + mean("b", "a", layer, 1)) / 2, abs=1e-9)


@pytest.mark.parametrize(
    ("override", "where"),
    [
        ("--data.tasks.a.coordinates=[0, 3]", "--data.tasks.a.coordinates: found 3"),
        ("--model.heads=3", "--model.heads: 3 heads do not divide"),
        ("--data.tasks.a.kind=cubic", "--data.tasks.a.kind"),
        ("--data.tasks.a.nonzero=1", "data.tasks.a: kind linear and nonzero 1"),
        ("--training.step=3", "--training.step: unknown key 'step'; did you mean 'steps'"),
        ("--study.prompt.queries=3", "study.prompt: is no section"),
        ("--study.prompts.shots=4", "study.prompts.shots: found 4 shots"),
        ("--study.decodability.shots=[0, 9]", "study.decodability.shots: found 9 shots"),
        ("--study.interventions.vector.vector.mean=c", "study.interventions.vector.vector.mean: unknown task 'c'"),
        (
            "--study.interventions.vector.op=pach",
            "study.interventions.vector.op: unknown op 'pach'; did you mean 'patch'",
        ),
        ("--study.controls=[shelf]", "study.controls[0]: unknown control 'shelf'"),
        ("--study.prompts.queries={sweep: [1, 2]}", "study.prompts.queries: is swept"),
        (
            "--study.decodability.twin=true",
            "study.decodability.twin: found true, and this model's own first checkpoints",
        ),
        ("--study.decodability.shuffled=2", "study.decodability.shuffled: found 2, and the checkpoints are held"),
        ("--study.decodability.probes=[knn]", 'study.decodability.probes: found ["knn"], and the checkpoints are'),
        (
            "--study.interventions.noisy={op: noise, layers: 0}",
            "study.interventions.noisy.op: op noise is measured in token embeddings",
        ),
        (
            "--study.interventions.both={edits: [{op: zero, layers: 0}, {op: noise, layers: 1}]}",
            "study.interventions.both.edits[1].op: op noise is measured in token embeddings",
        ),
        (
            "--study.interventions.both={edits: [{op: add, vector: {mean: a, shots: 4}, layers: 0},"
            " {op: add, vector: {mean: a, shots: 1}, layers: 1}]}",
            "study.interventions.both.edits[0].vector.shots: found 4 shots",
        ),
        ("--study.prompts.demonstrations=shared", "study.prompts.demonstrations: is shared, but each sequence"),
    ],
)
def test_wrong_settings_are_told_in_one_line(file, override, where):
    with pytest.raises(SpecError) as error:
        study_in(load_settings(SyntheticSettings, file, [override]))
    assert error.value.one_line().startswith(where), error.value.one_line()


def test_shipped_specs_are_settings():
    files = sorted((ROOT / "experiments" / "specs").glob("synthetic*.yaml"))
    assert len(files) >= 5
    for each in files:
        settings = load_settings(SyntheticSettings, each)
        assert questions_of(settings, study_in(settings)).plan.groups


def test_the_script_refuses_in_one_line_and_plans_without_writing(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    status, told, error = ran("synthetic.py", file, "--study.interventions.vector.layers=9")
    assert (status, told) == (2, "")
    assert error.startswith("error: study.interventions.vector.layers: ") and error.count("\n") == 1
    status, told, _ = ran("synthetic.py", file, "--plan", "--json")
    assert json.loads(told)["steps"] == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.yaml"]
