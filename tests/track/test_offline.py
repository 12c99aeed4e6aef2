"""No key, no network, a host that says nothing, a refused key: the run goes on at once, and nothing of it is lost."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from patchboard.track.upload import content_of
from tests.track.client import (
    closed_port,
    environment,
    light_spec,
    online,
    patchboard,
    silent_host,
    wandb,
)
from tests.track.server import KEY, serving


def offline_folders(run: Path) -> list[Path]:
    return sorted((run / "wandb").glob("offline-run-*"))


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("offline")


@pytest.fixture(scope="module")
def keyless(place) -> tuple[Path, str]:
    """A run by somebody who has never heard of W&B, at a terminal: its folder, and all that the terminal showed."""
    run = place / "run"
    command = [sys.executable, "-m", "patchboard", "run", str(light_spec(place)), "--out", str(run), "--quiet"]
    ours, theirs = pty.openpty()
    env = environment(place, TERM="dumb")
    process = subprocess.Popen(command, cwd=place, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert process.wait(timeout=180) == 0
    os.set_blocking(ours, False)
    try:
        shown = os.read(ours, 1 << 16).decode()
    except OSError:  # nothing was written, and the other end is closed
        shown = ""
    os.close(ours)
    return run, shown


@pytest.mark.slow  # test_mode has what decides it; here a process at a terminal
def test_without_a_key_it_is_offline_without_a_word_or_a_question(keyless):
    run, shown = keyless
    assert shown == ""
    assert len(offline_folders(run)) == 1
    assert json.loads((run / "manifest.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_what_is_offline_can_be_synced_and_is_all_there(keyless, place):
    run, _ = keyless
    content = content_of(run)
    with serving() as service:
        done = wandb("sync", str(offline_folders(run)[0]), cwd=place, env=online(place, service.url))
        assert done.returncode == 0, done.stdout
        (arrived,) = (each for each in service.runs.values() if each.history)
        assert [row for row in arrived.rows() if "layer" in row] == content.rows
        assert {name: arrived.summary[name] for name in content.values} == content.values
        assert arrived.exit_code == 0
        assert arrived.config["digest"]["value"] == content.config["digest"]


@pytest.mark.slow
def test_the_same_command_again_opens_no_other(keyless, place):
    run, _ = keyless
    arguments = ["run", str(light_spec(place)), "--out", str(run), "--quiet"]
    for more in ((), ("--wandb", "offline")):
        done = patchboard(*arguments, *more, cwd=place, env=environment(place))
        assert (done.returncode, done.stderr) == (0, "")
    assert len(offline_folders(run)) == 1


@pytest.mark.slow
def test_track_brings_it_online_once(keyless, place):
    run, _ = keyless
    with serving() as service:
        env = online(place, service.url)
        first = patchboard("track", str(run), cwd=place, env=env)
        assert first.returncode == 0 and f"{run}: {service.url}/lab/patchboard/runs/" in first.stdout, first.stderr
        rows = {name: each.rows() for name, each in service.runs.items()}
        again = patchboard("track", str(run), cwd=place, env=env)
        assert again.returncode == 0 and "mirrored already, http" in again.stdout, again.stderr
        assert {name: each.rows() for name, each in service.runs.items()} == rows
        (filled,) = (name for name, each in service.runs.items() if each.history)
        assert [row for row in rows[filled] if "layer" in row] == content_of(run).rows


OPEN = """
import sys, time
from pathlib import Path
from patchboard.track.opening import Identity, mode_for, opened
say = lambda line: print(line, file=sys.stderr)
identity = Identity("id", "name", {}, Path(sys.argv[1]))
start = time.monotonic()
run = opened(mode_for("auto", identity, say), identity, say)
print(run.offline, time.monotonic() - start)
run.finish()
"""
MOST = 15
"""Seconds that a run may wait for a network that is not there."""


@pytest.fixture
def unreached(tmp_path):
    """Opens a W&B run with a key at a URL; gives what it says and how long it took."""

    def open_at(url: str) -> tuple[str, float]:
        command = [sys.executable, "-c", OPEN, str(tmp_path / "run")]
        env = online(tmp_path, url)
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
        offline, seconds = done.stdout.split()
        assert offline == "True", done.stderr
        return done.stderr, float(seconds)

    return open_at


def test_a_key_without_a_network_is_a_line(unreached, tmp_path):
    said, seconds = unreached(closed_port())
    run = tmp_path / "run"
    assert said == f"W&B is offline: 127.0.0.1 cannot be reached; `patchboard track {run}` mirrors the run later\n"
    assert seconds < MOST


@pytest.mark.slow
def test_a_host_that_says_nothing_is_a_line(unreached):
    with silent_host() as url:
        said, seconds = unreached(url)
    assert said.startswith("W&B is offline: 127.0.0.1 did not answer in time; ") and said.count("\n") == 1
    assert seconds < MOST


def test_a_host_without_a_name_is_a_line(unreached):
    said, seconds = unreached("https://no-such-host.invalid")
    assert said.startswith("W&B is offline: no-such-host.invalid ") and said.count("\n") == 1
    assert seconds < MOST


@pytest.mark.slow
def test_a_host_that_answers_and_opens_no_run_is_a_line(unreached):
    with serving() as service:
        service.hangs = True
        said, seconds = unreached(service.url)
    assert said.startswith("W&B is offline: it opened no run (") and said.count("\n") == 1
    assert seconds < MOST


def test_a_refused_key_is_a_line(unreached):
    with serving() as service:
        service.refuses = True
        said, seconds = unreached(service.url)
    assert said.startswith("W&B is offline: it opened no run (") and said.count("\n") == 1
    assert seconds < MOST


@pytest.mark.slow
def test_a_key_that_cannot_be_one(tmp_path):
    env = environment(tmp_path, "http://127.0.0.1:9", KEY[:7])
    spec, run = str(light_spec(tmp_path)), tmp_path / "run"
    done = patchboard("run", spec, "--out", str(run), "--quiet", "--wandb", "online", cwd=tmp_path, env=env)
    assert done.returncode == 2 and done.stderr.startswith("error: --wandb: the key cannot be one (")
    assert done.stderr.count("\n") == 1 and KEY[:7] not in done.stderr and not run.exists()


@pytest.mark.slow
def test_settings_that_wandb_refuses_cost_a_line(tmp_path):
    run = tmp_path / "run"
    env = environment(tmp_path, WANDB_CONSOLE="no-such-kind", WANDB_MODE="")
    done = patchboard("run", str(light_spec(tmp_path)), "--out", str(run), "--quiet", cwd=tmp_path, env=env)
    assert done.returncode == 0 and (run / "report.html").exists(), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("W&B could not be started (") and "console" in line and line.endswith("the run later")


@pytest.mark.slow
def test_a_run_with_a_key_and_no_network_is_a_whole_run(tmp_path):
    run = tmp_path / "run"
    env = online(tmp_path, closed_port())
    done = patchboard("run", str(light_spec(tmp_path)), "--out", str(run), "--quiet", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    later = f"`patchboard track {run}` mirrors the run later"
    assert done.stderr == f"W&B is offline: 127.0.0.1 cannot be reached; {later}\n"
    assert (run / "report.html").exists() and len(offline_folders(run)) == 1
