"""``patchboard sweep``: the file's points run here, resumed, failed and collected."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from patchboard.commands.main import main
from tests.conftest import ROOT
from tests.sweep.sweeps import SHOTS, STOPPED, STRENGTH, interrupted, sweep_file, two_at_work
from tests.track.client import online, patchboard
from tests.track.server import serving

pytestmark = pytest.mark.slow
"""Whole runs, several at once."""

GRID = {STRENGTH: {"values": [0.5, 1]}, SHOTS: {"values": [0, 1]}}


@pytest.fixture(scope="module")
def swept(place) -> Path:
    out = place / "out"
    os.environ["PYTHONPATH"] = str(ROOT)
    assert main(["sweep", sweep_file(place, "grid", GRID), "--jobs", "2", "--out", str(out), "--quiet"]) == 0
    return out


def manifests(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("*/manifest.json")}


def test_the_table_holds_what_the_runs_hold(swept):
    table = pl.read_parquet(swept / "sweep.parquet")
    points = {(row[STRENGTH], row[SHOTS]) for row in table.iter_rows(named=True)}
    assert points == {(0.5, 0), (0.5, 1), (1, 0), (1, 1)} and len(table) == 4
    for row in table.iter_rows(named=True):
        summary = json.loads((Path(row["folder"]) / "summary.json").read_text())["interventions"]["p"]
        assert (row["layer"], row["effect"], row["ci_low"]) == (
            summary["best_layer"],
            summary["effect"],
            summary["ci_low"],
        )
        assert (row["cd"], row["objective"], row["status"]) == (summary["cd_at_best_layer"], summary["effect"], 0)
        assert summary["shots"] == row[SHOTS]
    assert (swept / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert not list(swept.glob("*/wandb")), "no W&B unless asked for"


def test_the_best_point_is_the_best(swept):
    told = json.loads((swept / "sweep.json").read_text())
    assert told["best"]["value"] == max(point["value"] for point in told["points"])
    assert told["best"]["parameters"] in [
        p["parameters"] for p in told["points"] if p["value"] == told["best"]["value"]
    ]


def test_again_it_costs_nothing_and_a_longer_grid_only_what_is_new(place, swept, capfd):
    before = manifests(swept)
    assert main(["sweep", sweep_file(place, "grid", GRID), "--out", str(swept), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["best"] and manifests(swept) == before
    longer = {STRENGTH: {"values": [1, 0.5, 2]}, SHOTS: {"values": [1]}}
    assert main(["sweep", sweep_file(place, "grid", longer), "--out", str(swept), "--quiet"]) == 0
    after = manifests(swept)
    assert len(after) == 5 and before.items() <= after.items()
    assert len(pl.read_parquet(swept / "sweep.parquet")) == 3, "the table is of this grid"


@pytest.mark.slow
def test_a_failing_point_is_told_and_the_sweep_goes_on(place, tmp_path, capfd):
    parameters = {"interventions.p.layers": {"values": [99, 98]}}
    assert main(["sweep", sweep_file(place, "failing", parameters), "--out", str(tmp_path / "out")]) == 2
    captured = capfd.readouterr()
    for layer, line in zip((99, 98), captured.err.splitlines(), strict=True):
        assert line.startswith(f"point layers={layer}-") and "failed with status 2: " in line
        assert f"there is no layer {layer}, the model has 4" in line
    told = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [point["status"] for point in told["points"]] == [2, 2] and told["best"] is None
    assert captured.out.count("failed (2)") == 2


def test_a_metric_that_no_run_has_is_one_line(place, swept, capfd):
    metric = {"name": "best/effect/p/acuracy", "goal": "maximize"}
    assert main(["sweep", sweep_file(place, "metric", GRID, metric=metric), "--out", str(swept)]) == 2
    said = "error: metric.name: a run has no value 'best/effect/p/acuracy'; did you mean 'best/effect/p/accuracy'?\n"
    assert capfd.readouterr().err == said


@pytest.mark.slow
def test_a_bayesian_search_goes_on_where_it_was(place, tmp_path):
    parameters = {STRENGTH: {"min": 0.0, "max": 4.0}, SHOTS: {"values": [0, 1]}}
    out = tmp_path / "out"

    def searched(count: int) -> list[dict[str, Any]]:
        file = sweep_file(place, "bayes", parameters, method="bayes", run_cap=count)
        assert main(["sweep", file, "--out", str(out), "--quiet"]) == 0
        return json.loads((out / "sweep.json").read_text())["points"]

    first = searched(2)
    before = manifests(out)
    both = searched(3)
    assert both[:2] == first and len(both) == 3 and before.items() <= manifests(out).items()
    assert len({json.dumps(point["parameters"]) for point in both}) == 3, "not the first draws again"


@pytest.mark.slow
def test_a_stopped_sweep_stops_its_points_and_resumes(place, tmp_path):
    out = tmp_path / "out"
    file = sweep_file(place, "stopped", {STRENGTH: {"values": [1, 2, 3]}})
    command = ["sweep", file, "--jobs", "2", "--out", str(out), "--quiet"]
    assert interrupted(command, two_at_work(out)) == STOPPED
    assert not (out / "sweep.json").exists()
    assert main(["sweep", file, "--out", str(out), "--quiet"]) == 0
    assert [point["status"] for point in json.loads((out / "sweep.json").read_text())["points"]] == [0, 0, 0]


def test_figures_are_had_in_other_formats_without_a_run_anew(place, tmp_path):
    """Those of each point and of the sweep, of finished points too; the sweep's own are of the last call alone."""
    out = tmp_path / "out"
    command = ["sweep", sweep_file(place, "drawn", {STRENGTH: {"values": [1]}}), "--out", str(out), "--quiet"]

    def drawn(*figures: str) -> tuple[set[str], set[str]]:
        assert main([*command, *figures]) == 0
        (point,) = out.glob("strength=*")
        return {path.suffix for path in (point / "figures").iterdir()}, {path.suffix for path in out.glob("sweep.*")}

    assert drawn("--figures", "svg") == ({".png", ".csv", ".svg"}, {".parquet", ".json", ".png", ".csv", ".svg"})
    (outcomes,) = out.glob("*/outcomes.parquet")
    before = outcomes.stat().st_mtime_ns
    assert drawn("--figures", "pdf,svg")[0] == {".png", ".csv", ".svg", ".pdf"}
    assert drawn()[1] == {".parquet", ".json", ".png", ".csv"} and outcomes.stat().st_mtime_ns == before


def test_a_second_process_is_refused(place, swept, capfd):
    from filelock import FileLock

    with FileLock(swept / ".lock"):
        assert main(["sweep", sweep_file(place, "grid", GRID), "--out", str(swept)]) == 2
    assert "another process runs this sweep; wait for it, or give another --out" in capfd.readouterr().err


@pytest.mark.slow
def test_points_are_mirrored_as_a_group_if_asked_for(place, tmp_path):
    with serving() as service:
        env = online(tmp_path, service.url, WANDB_MODE="")
        file = sweep_file(place, "mirrored", {SHOTS: {"values": [1]}})
        command = ["sweep", file, "--out", str(tmp_path / "out"), "--wandb", "auto", "--quiet"]
        done = patchboard(*command, cwd=place, env=env)
        assert done.returncode == 0, done.stderr
        (run,) = (each for each in service.runs.values() if each.config)
        assert run.exit_code == 0 and run.group == "mirrored"
        assert any("effect/p/accuracy" in row for row in run.rows())
