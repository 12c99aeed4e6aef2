"""``patchboard sweep --launcher submitit``: points as jobs, here and by the commands of a cluster."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from polars.testing import assert_frame_equal
from submitit.helpers import DelayedSubmission

import patchboard as pb
from patchboard.commands.main import main
from patchboard.sweeps.job import PointsJob
from patchboard.sweeps.launch import launch_of
from patchboard.sweeps.submitted import Ledger
from patchboard.sweeps.task import PointTask
from tests.conftest import ROOT
from tests.sweep.slurm import write_commands
from tests.sweep.sweeps import STOPPED, STRENGTH, interrupted, sweep_file, two_at_work

LOCAL = ("--launcher", "submitit", "--launcher-options", "cluster=local")
GRID = {STRENGTH: {"values": [0.5, 1, 2]}}
TABLES = ("outcomes", "effects", "curves", "decodability", "prompts")


@pytest.fixture(scope="module")
def sequential(place) -> Path:
    """What the jobs' results must equal: the same points one after the other, without a launcher."""
    os.environ["PYTHONPATH"] = str(ROOT)
    assert main(["sweep", sweep_file(place, "grid", GRID), "--out", str(place / "sequential"), "--quiet"]) == 0
    return place / "sequential"


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """Commands of a cluster; gives the folder in which they keep what they were asked for."""
    for name, value in write_commands(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "slurm" / "state"


def must_equal(out: Path, sequential: Path) -> None:
    """To the bit: the sweep's table, and each point's tables."""
    ours, theirs = (pl.read_parquet(each / "sweep.parquet").drop("folder") for each in (out, sequential))
    assert_frame_equal(ours, theirs, check_row_order=False, check_exact=True)
    folders = [path.parent.name for path in sequential.glob("*/manifest.json")]
    assert len(folders) == 3
    for name in folders:
        for table in TABLES:
            pair = (pl.read_parquet(each / name / f"{table}.parquet") for each in (out, sequential))
            assert_frame_equal(*pair, check_exact=True)


@pytest.mark.slow
def test_jobs_of_this_machine_give_what_a_sequential_sweep_gives(place, sequential, tmp_path, capfd):
    """Submitted and left, collected by the same command, and never run again."""
    command = ["sweep", sweep_file(place, "grid", GRID), "--out", str(tmp_path / "out"), *LOCAL]
    assert main([*command, "--points-per-job", "2", "--detach", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert len(told["jobs"]) == 2 and not (tmp_path / "out" / "sweep.json").exists()
    assert [len(job.points) for job in Ledger(tmp_path / "out")] == [2, 1]
    assert main([*command, "--detach"]) == 0
    assert capfd.readouterr().out.startswith(f"under way: {', '.join(told['jobs'])}\n"), "not submitted again"
    assert main([*command, "--quiet"]) == 0
    must_equal(tmp_path / "out", sequential)
    assert not list(Ledger(tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/manifest.json")}
    again = pb.sweep(command[1], out=tmp_path / "out", launcher="submitit", launcher_options={"cluster": "local"})
    assert (again.status, again.jobs, len(again.runs)) == (0, (), 3)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list((tmp_path / "out" / "jobs").glob("[0-9]*"))) == 2


@pytest.mark.slow
def test_a_cluster_gets_one_array(place, sequential, slurm, tmp_path, capfd):
    options = tmp_path / "gpu.yaml"
    options.write_text("partition: gpu\ngpus_per_node: 1\ntimeout_min: 90\nqos: night\n")
    command = ["sweep", sweep_file(place, "grid", GRID), "--out", str(tmp_path / "out"), "--jobs", "2"]
    command += ["--launcher", "submitit", "--launcher-options", str(options), "--quiet"]
    assert main(command) == 0, capfd.readouterr().err
    must_equal(tmp_path / "out", sequential)
    (asked,) = (slurm / "options").read_text().splitlines()
    for name, value in {
        "array": "0-2%2",
        "partition": "gpu",
        "gpus-per-node": "1",
        "time": "90",
        "qos": "night",
    }.items():
        assert f"'{name}': '{value}'" in asked
    assert main([*command[:-1], "--json"]) == 0 and len((slurm / "options").read_text().splitlines()) == 1


@pytest.mark.slow
def test_failed_jobs_are_told_with_their_logs(place, slurm, tmp_path, capfd):
    """One point is wrong, another's job dies without a word; the next call runs both again."""
    parameters = {"interventions.p.layers": {"values": [99, 1, 2]}}
    out = tmp_path / "out"
    command = [
        "sweep",
        sweep_file(place, "failing", parameters),
        "--out",
        str(out),
        "--launcher",
        "submitit",
        "--quiet",
    ]
    assert main([*command, "--detach"]) == 0
    deadline = time.monotonic() + 120
    while not list(out.glob("logs/*layers=2-*")):  # it has begun, and is killed before it ends
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job = psutil.Process(int((slurm / "100_2.running").read_text()))
    job.suspend()  # so that it does not see its commands end
    for process in (*job.children(recursive=True), job):  # as a cluster does where its memory is used up
        process.kill()
    (slurm / "100_2.running").rename(slurm / "100_2.over")
    assert main(command) in (1, 2)  # that of the first to fail
    wrong, lost = sorted(capfd.readouterr().err.splitlines())[::-1]
    assert re.match(
        r"point layers=99-\w+ failed with status 2: .*there is no layer 99, .*; log: /.*99-\w+\.log$", wrong
    )
    assert re.match(r"point layers=2-\w+ failed with status 1: job 100_2 ended \(FAILED\) without a word, ", lost)
    for line in (wrong, lost):
        assert Path(line.split("; log: ")[1]).exists()
    told = json.loads((out / "sweep.json").read_text())["points"]
    assert sorted(point["status"] for point in told) == [0, 1, 2]
    assert main(command) == 2
    assert "'array': '0-1%2'" in (slurm / "options").read_text().splitlines()[1]
    told = json.loads((out / "sweep.json").read_text())["points"]
    assert sorted(point["status"] for point in told) == [0, 0, 2]


@pytest.mark.slow
def test_an_interrupt_ends_jobs_of_this_machine(place, tmp_path):
    """They keep what they have; the same command goes on."""
    out, file = tmp_path / "out", sweep_file(place, "stopped", {STRENGTH: {"values": [1, 2]}})
    command = ["sweep", file, "--out", str(out), "--quiet", "--jobs", "2", *LOCAL]
    assert interrupted(command, two_at_work(out)) == STOPPED
    assert main(command) == 0
    assert [point["status"] for point in json.loads((out / "sweep.json").read_text())["points"]] == [0, 0]


@pytest.mark.slow
def test_an_interrupt_leaves_jobs_of_a_cluster(place, slurm, tmp_path):
    out, file = tmp_path / "out", sweep_file(place, "left", {STRENGTH: {"values": [1]}})
    command = ["sweep", file, "--out", str(out), "--quiet", "--launcher", "submitit"]
    said = interrupted(command, (out / "jobs.json").exists)
    assert said.splitlines()[0] == "jobs 100 go on: the same command collects them, scancel 100 ends them"
    assert main(command) == 0 and len((slurm / "options").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_bayesian_search_asks_as_jobs_end(place, tmp_path, capfd):
    parameters = {STRENGTH: {"min": 0.0, "max": 4.0}}
    file = sweep_file(place, "searched", parameters, method="bayes", run_cap=2)
    assert main(["sweep", file, "--out", str(tmp_path / "out"), *LOCAL, "--detach"]) == 2
    assert "error: --detach: a Bayesian search asks for a point when it knows" in capfd.readouterr().err
    assert main(["sweep", file, "--out", str(tmp_path / "out"), *LOCAL, "--quiet"]) == 0
    told = json.loads((tmp_path / "out" / "sweep.json").read_text())["points"]
    assert len({json.dumps(point["parameters"]) for point in told}) == 2
    assert len(list((tmp_path / "out" / "jobs").glob("[0-9]*"))) == 2


def test_refused_submissions_are_one_line(place, slurm, tmp_path, capfd):
    command = ["sweep", sweep_file(place, "grid", GRID), "--out", str(tmp_path / "out"), "--launcher", "submitit"]
    assert main([*command, "--launcher-options", "partition=none"]) == 2
    assert capfd.readouterr().err == (
        "error: --launcher-options: the jobs are refused: sbatch: error: invalid partition specified: none; "
        "mend the options\n"
    )
    assert not list(Ledger(tmp_path / "out"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--detach"], "--detach: says how jobs are submitted, and no launcher is given; add --launcher submitit"),
        (["--figures", "svg,gif"], "--figures: there is no format 'gif', expected svg, pdf or png; "),
        (["--launcher", "submit"], "--launcher: unknown launcher 'submit'; did you mean 'submitit'?"),
        ([*LOCAL, "--points-per-job", "0"], "--points-per-job: found 0, expected a whole number ≥ 1; give how many"),
        (
            ["--launcher", "submitit", "--launcher-options", "partitoin=gpu,cluster=local"],
            "--launcher-options: partitoin: is no parameter of submitit; did you mean 'partition'?",
        ),
        (
            ["--launcher", "submitit", "--launcher-options", "timeout_min=1h,cluster=local"],
            "--launcher-options: timeout_min: found the text '1h', expected a whole number; write it so",
        ),
        (
            ["--launcher", "submitit", "--launcher-options", "cluster=lokal"],
            "--launcher-options: cluster: found the text 'lokal'; did you mean 'local'?",
        ),
        (["--launcher", "submitit", "--launcher-options", "a=1,a=2"], "--launcher-options: a: is given twice"),
        (["--launcher", "submitit", "--launcher-options", "none.yaml"], "--launcher-options: found 'none.yaml', which"),
    ],
)
def test_wrong_flags_are_one_line(place, tmp_path, capsys, arguments, line):
    command = ["sweep", sweep_file(place, "grid", GRID), "--out", str(tmp_path / "out"), *arguments]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {line}") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_a_cluster_it_says_so(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["sweep", sweep_file(place, "grid", GRID), "--launcher", "submitit"]) == 2
    assert "no SLURM is here (sbatch is not found); run it where SLURM is, or give" in capsys.readouterr().err


def test_options_are_submitits(slurm, tmp_path):
    launch = launch_of("submitit", "nodelist=a1,a2,mem_gb=4,slurm_time=3,max_num_timeout=1,gres=gpu:1", 2, True)
    assert launch is not None and (launch.cluster, launch.points_per_job, launch.detach) == ("slurm", 2, True)
    assert launch.creating == {"slurm_max_num_timeout": 1}
    assert launch.parameters == {
        "timeout_min": 240, "name": "patchboard", "slurm_nodelist": "a1,a2", "mem_gb": 4, "slurm_time": 3,
        "slurm_gres": "gpu:1",
    }  # fmt: skip
    here = launch_of("submitit", {"cluster": "local", "partition": "gpu"}, None, False)
    assert here is not None and here.parameters["slurm_partition"] == "gpu", "one file is for both"


def test_a_job_that_is_put_off_takes_up_where_it_was(tmp_path):
    """``checkpoint`` interrupts what runs; called again, finished points are not run."""
    code = "import sys, time; open(sys.argv[1], 'a').write('x'); time.sleep(float(sys.argv[2])); sys.exit(3)"

    def task(name: str, wait: str) -> PointTask:
        words = [sys.executable, "-c", code, str(tmp_path / f"{name}.ran"), wait]
        return PointTask(tmp_path / name, tmp_path / f"{name}.log", words)

    tasks = [task("first", "0"), task("second", "30"), task("third", "0")]
    job = PointsJob(tasks, {}, tmp_path)
    later: list[DelayedSubmission] = []

    def put_off(number, frame):
        later.append(job.checkpoint())
        raise SystemExit

    before = signal.signal(signal.SIGUSR2, put_off)
    sent = (
        f"import os, pathlib, time\nran = pathlib.Path({str(tmp_path / 'second.ran')!r})\n"
        f"while not ran.exists(): time.sleep(.02)\ntime.sleep(.2); os.kill({os.getpid()}, {int(signal.SIGUSR2)})"
    )
    try:
        with subprocess.Popen([sys.executable, "-c", sent]), pytest.raises(SystemExit):
            job()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert "KeyboardInterrupt" in (tmp_path / "second.log").read_text() and not (tmp_path / "third.ran").exists()
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "manifest.json").write_text('{"status": "finished", "digest": "0", "version": 1}')
    again = later[0].function
    again._tasks = (again._tasks[0], again._tasks[2])
    assert again() == [0, 3]
    assert [(tmp_path / f"{name}.ran").read_text() for name in ("first", "second", "third")] == ["x", "x", "x"]
