"""The real ``wandb sweep`` and ``wandb agent`` over a grid: what arrives is what the run folders hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ruamel.yaml import YAML

from patchboard.measure.decodability import ALL
from patchboard.sweeps.parameter import parameter_of
from tests.conftest import ROOT
from tests.track.client import light_spec, online, wandb
from tests.track.server import Run, Service, serving

pytestmark = pytest.mark.slow
"""A minute of real agents."""

STRENGTH, SHOTS = "interventions.positive.strength", "prompts.shots"
GRID = {STRENGTH: {"values": [0.5, 1]}, SHOTS: {"values": [0, 2]}}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("agents")


@pytest.fixture(scope="module")
def service():
    with serving() as found:
        yield found


def sweep_file(place: Path, parameters: dict[str, Any]) -> Path:
    """A sweep as the shipped ones are written, over a light spec."""
    shipped = YAML(typ="safe").load(ROOT / "sweeps" / "strength_shots.yaml")
    command = [str(light_spec(place)) if str(item).endswith("patching.yaml") else item for item in shipped["command"]]
    assert command != shipped["command"]
    program = str(ROOT / shipped["program"])
    metric = {"name": "best/effect/positive/accuracy", "goal": "maximize"}
    path = place / "sweep.yaml"
    sweep = {"program": program, "method": "grid", "metric": metric, "parameters": parameters, "command": command}
    YAML(typ="safe").dump(sweep, path)
    return path


def created(place: Path, env: dict[str, str], parameters: dict[str, Any]) -> str:
    """The id that ``wandb sweep`` says."""
    done = wandb("sweep", "--project", "patchboard", str(sweep_file(place, parameters)), cwd=place, env=env)
    assert done.returncode == 0, done.stdout
    found = re.search(r"wandb agent (\S+)", done.stdout)
    assert found, done.stdout
    return found[1]


def runs_of(service: Service, sweep: str) -> list[Run]:
    return [run for run in service.runs.values() if run.sweep == sweep.split("/")[-1]]


def folder_of(place: Path, run: Run) -> Path:
    digest = run.config["digest"]["value"]
    return place / "runs" / f"light-{digest[:8]}"


@pytest.fixture(scope="module")
def swept(place, service) -> tuple[list[Run], list[subprocess.CompletedProcess]]:
    """A grid of four points, taken by several agents at a time."""
    env = online(place, service.url)
    sweep = created(place, env, GRID)
    with ThreadPoolExecutor(3) as pool:  # two of them have one point, one has two
        agents = list(pool.map(lambda _: wandb("agent", sweep, cwd=place, env=env), range(3)))
    return runs_of(service, sweep), agents


def test_every_point_of_the_grid_is_a_finished_run(swept, place):
    runs, agents = swept
    assert all(agent.returncode == 0 for agent in agents), agents[0].stdout
    points = {(run.config[STRENGTH]["value"], run.config[SHOTS]["value"]) for run in runs}
    assert points == {(0.5, 0), (0.5, 2), (1, 0), (1, 2)} and len(runs) == 4
    assert [run.exit_code for run in runs] == [0] * 4
    assert len({folder_of(place, run) for run in runs}) == 4
    for run in runs:
        nested = run.config["spec"]["value"]
        assert nested["prompts"]["shots"] == run.config[SHOTS]["value"]
        assert nested["interventions"]["positive"]["strength"] == run.config[STRENGTH]["value"]


def test_history_has_cd_and_effect_by_layer_as_in_the_run_folder(swept, place):
    for run in swept[0]:
        folder = folder_of(place, run)
        rows = {row["layer"]: row for row in run.rows() if "layer" in row}
        cd = pl.read_parquet(folder / "decodability.parquet").filter(task=ALL)
        for shots in (0, 2):
            by_layer = cd.filter(shots=shots)
            assert {layer: row[f"cd/shots={shots}"] for layer, row in rows.items()} == dict(
                zip(by_layer["layer"], by_layer["cd"], strict=True)
            )
        assert all(row["cd"] == row["cd/shots=2"] for row in rows.values())
        effects = pl.read_parquet(folder / "effects.parquet").filter(control="")
        for metric in ("accuracy", "logprob"):
            own = effects.filter(metric=metric).filter(pl.col("n") > 0)
            arrived = {layer: row[f"effect/positive/{metric}"] for layer, row in rows.items() if layer in (1, 3, 4)}
            for (layer,), part in own.group_by("layer"):  # every query of every task weighs the same
                pooled = (part["effect"] * part["n"]).sum() / part["n"].sum()
                assert arrived.pop(int(layer)) == pytest.approx(pooled, abs=1e-12)
            assert not arrived
        assert not any("effect/positive/accuracy" in rows[layer] for layer in (0, 2, 5))


def test_summary_has_the_best_layer_with_its_interval(swept, place):
    for run in swept[0]:
        told = json.loads((folder_of(place, run) / "summary.json").read_text())["interventions"]["positive"]
        assert run.summary["best/layer/positive"] == told["best_layer"]
        for bound in ("effect", "ci_low", "ci_high"):
            assert run.summary[f"best/{bound}/positive/accuracy"] == told[bound]
        assert run.summary["best/cd/positive"] == told["cd_at_best_layer"]
        assert not [key for key in run.summary if key.startswith(("effect/", "cd/")) or key == "cd"]


def test_tables_figures_and_the_page_arrive(swept, place):
    run = swept[0][0]
    folder = folder_of(place, run)
    media = next(row for row in run.rows() if "report" in row)
    assert media["effects"]["nrows"] == len(pl.read_parquet(folder / "effects.parquet"))
    table = json.loads(run.files[media["effects"]["path"]])
    stored = pl.read_parquet(folder / "effects.parquet")
    assert table["columns"] == stored.columns and {"effect", "ci_low", "ci_high"} <= set(table["columns"])
    column = table["columns"].index("effect")
    assert sorted(row[column] for row in table["data"]) == sorted(stored["effect"].to_list())
    assert run.files[media["report"]["path"]] == (folder / "report.html").read_bytes()
    for figure in (folder / "figures").glob("*.png"):
        assert run.files[media[f"figures/{figure.stem}"]["path"]] == figure.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_wandb_takes_every_shipped_sweep_as_it_is(place, service, path):
    env = online(place, service.url)
    done = wandb("sweep", str(path), cwd=place, env=env)
    assert done.returncode == 0 and "wandb agent" in done.stdout, done.stdout
    taken, ours = list(service.sweeps.values())[-1], YAML(typ="safe").load(path)
    assert {**taken, "parameters": 0} == {**ours, "parameters": 0}
    for name, given in ours["parameters"].items():  # the client writes out the distributions that it takes them for
        assert parameter_of(name, taken["parameters"][name], name) == parameter_of(name, given, name)


@pytest.mark.slow
def test_a_finished_point_is_logged_again_and_not_computed(swept, place, service):
    first = next(run for run in swept[0] if (run.config[STRENGTH]["value"], run.config[SHOTS]["value"]) == (1, 2))
    manifest = folder_of(place, first) / "manifest.json"
    before = manifest.stat().st_mtime_ns
    env = online(place, service.url)
    sweep = created(place, env, {STRENGTH: {"values": [1]}, SHOTS: {"value": 2}})
    assert wandb("agent", sweep, cwd=place, env=env).returncode == 0
    (again,) = runs_of(service, sweep)
    assert manifest.stat().st_mtime_ns == before
    layers = [row for row in again.rows() if "layer" in row]
    assert layers and layers == [row for row in first.rows() if "layer" in row]
    assert again.exit_code == 0 and again.summary["best/layer/positive"] == first.summary["best/layer/positive"]


@pytest.mark.slow
def test_a_point_that_cannot_be_meant_fails_with_its_line(swept, place, service):
    env = online(place, service.url)
    sweep = created(place, env, {"interventions.positive.vector.rank": {"values": [9]}})
    agent = wandb("agent", "--count", "1", sweep, cwd=place, env=env)
    (run,) = runs_of(service, sweep)
    assert run.exit_code == 2
    line = "interventions.positive.vector.rank: found the whole number 9 beside mean, but only a subspace has a rank"
    assert line in run.summary["error"].replace("--", "") and line in run.text.replace("--", "")
    told = [text for text in agent.stdout.splitlines() if text.startswith("error: ")]
    assert len(told) == 1 and line in told[0].replace("--", "")
    assert "Traceback" not in agent.stdout


def test_the_agent_python_is_this_one(place):
    """Else the agent's ``python`` would test another installation."""
    env = online(place, "")
    done = subprocess.run(["python", "-c", "import sys; print(sys.prefix)"], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == sys.prefix
