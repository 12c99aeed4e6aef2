"""However a run ends, its W&B run ends with it, in the right state; and the next try goes on in the same one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchboard.track.upload import content_of
from tests.track.client import LIGHT, light_spec, online, patchboard, start
from tests.track.server import Run, Service, serving


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as found:
        yield found


def only(service: Service) -> Run:
    (run,) = (each for each in service.runs.values() if each.config)
    return run


def long_spec(folder: Path) -> Path:
    """A run that is still at work when it is stopped: many packs, and a part on disk for each."""
    added = {"op": "add", "vector": LIGHT["interventions"]["positive"]["vector"], "strength": {"sweep": [1, 2]}}
    prompts = {"shots": {"sweep": [1, 2, 3]}, "queries": 40}
    return light_spec(folder, name="long", prompts=prompts, interventions={"added": added})


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130)])
def test_a_stopped_run_is_closed_and_resumes_in_the_same_one(service, tmp_path, number, status):
    env, run = online(tmp_path, service.url), tmp_path / "run"
    arguments = ["run", str(long_spec(tmp_path)), "--out", str(run), "--quiet"]
    process = start(*arguments, cwd=tmp_path, env=env)
    deadline = time.monotonic() + 120
    while not any((run / "parts").glob("*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in said
    first = only(service)
    assert first.exit_code == 255 and not first.history
    assert json.loads((run / "manifest.json").read_text())["status"] == "running"

    done = patchboard(*arguments, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert only(service) is first and first.exit_code == 0
    assert [row for row in first.rows() if "layer" in row] == content_of(run).rows


CRASH = """
import sys
import patchboard.execution.run
def crash(*given):
    raise ZeroDivisionError("by us")
patchboard.execution.run.run_study = crash
from patchboard.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_crash_is_a_failed_run_with_its_error(service, tmp_path):
    arguments = ["run", str(light_spec(tmp_path)), "--out", str(tmp_path / "run"), "--quiet"]
    command = [sys.executable, "-c", CRASH, *arguments]
    env = online(tmp_path, service.url)
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "ZeroDivisionError: by us" in done.stderr
    assert only(service).exit_code == 1
    assert only(service).summary["error"] == "ZeroDivisionError('by us')"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "opened"),
    [
        pytest.param("--interventions.positive.op=pach", False, id="in the spec"),
        pytest.param("--layers=99", True, id="in the model"),
    ],
)
def test_bad_input_leaves_nothing_behind(service, tmp_path, argument, opened):
    run = tmp_path / "run"
    done = patchboard("run", str(light_spec(tmp_path)), "--out", str(run), argument,
                      "--quiet", cwd=tmp_path, env=online(tmp_path, service.url))  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not run.exists()
    assert [each.exit_code for each in service.runs.values() if each.config] == [2] * opened


@pytest.mark.slow
def test_a_fresh_run_has_a_new_one(service, tmp_path):
    env, run = online(tmp_path, service.url), tmp_path / "run"
    arguments = ["run", str(light_spec(tmp_path)), "--out", str(run), "--quiet"]
    for more, runs in (((), 1), (("--fresh",), 2)):
        assert patchboard(*arguments, *more, cwd=tmp_path, env=env).returncode == 0
        assert sum(bool(each.history) for each in service.runs.values()) == runs


@pytest.mark.slow
def test_the_folder_of_another_run_keeps_its_mirror(service, tmp_path):
    env, run = online(tmp_path, service.url), tmp_path / "run"
    arguments = ["run", str(light_spec(tmp_path)), "--out", str(run), "--quiet"]
    assert patchboard(*arguments, cwd=tmp_path, env=env).returncode == 0
    note, runs = (run / "wandb" / "mirror.json").read_text(), set(service.runs)
    done = patchboard(*arguments, "--prompts.shots=1", cwd=tmp_path, env=env)
    assert done.returncode == 2 and "holds a run of another spec" in done.stderr and done.stderr.count("\n") == 1
    assert (run / "wandb" / "mirror.json").read_text() == note and set(service.runs) == runs


PARTLY = """
import os, sys
from pathlib import Path
from patchboard.track import finished, upload
def partly(run, content):
    for step, row in enumerate(content.rows[:4]):
        run.log(row, step=step)
    run.finish()
    os._exit(9)
upload.log_content = partly
finished.mirror(Path(sys.argv[1]), "online", print)
"""


@pytest.mark.slow
def test_a_mirror_that_broke_off_is_completed_and_not_doubled(service, tmp_path):
    env, run = online(tmp_path, service.url), tmp_path / "run"
    arguments = ["run", str(light_spec(tmp_path)), "--out", str(run), "--quiet", "--wandb", "off"]
    assert patchboard(*arguments, cwd=tmp_path, env=env).returncode == 0
    command = [sys.executable, "-c", PARTLY, str(run)]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 9, done.stderr
    whole = content_of(run).rows
    assert len(whole) == 6 and only(service).rows() == whole[:4]
    assert patchboard("track", str(run), cwd=tmp_path, env=env).returncode == 0
    assert [row for row in only(service).rows() if "layer" in row] == whole


GONE = """
import sys
from patchboard.track import opening
opening.FINISH_TIMEOUT = 2.0
from patchboard.commands.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_host_that_goes_away_costs_a_line_and_not_the_run(tmp_path):
    run = tmp_path / "run"
    with serving() as service:
        arguments = ["run", str(light_spec(tmp_path)), "--out", str(run), "--quiet"]
        process = subprocess.Popen(
            [sys.executable, "-c", GONE, *arguments], cwd=tmp_path, env=online(tmp_path, service.url),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while not (run / "manifest.json").exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0 and (run / "report.html").exists()
    (line,) = said.splitlines()
    assert line.startswith("W&B has not got all of this run (") and line.endswith("mirrors it later")
    with serving() as service:
        assert patchboard("track", str(run), cwd=tmp_path, env=online(tmp_path, service.url)).returncode == 0
        assert [row for row in only(service).rows() if "layer" in row] == content_of(run).rows
