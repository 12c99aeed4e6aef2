"""progress.json: a run tells how far it is and why it stopped; a finished one has none."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from patchboard.engine.local import LocalEngine
from patchboard.errors import RemoteRunError
from patchboard.store.integrity import PROGRESS
from patchboard.store.progress import Told, read_told, told_in
from tests.contract.tiny import run, tiny_tree


def told(folder: Path) -> Told:
    found = read_told(folder)
    assert found is not None
    return found[0]


def test_a_run_tells_how_far_it_is_and_that_it_was_stopped(llama_folder, tmp_path, monkeypatch):
    seen: list[Told] = []
    original = LocalEngine.score_pack

    def watched(engine, group, pack, operands, scorers):
        seen.append(told(tmp_path / "run"))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(engine, group, pack, operands, scorers)

    monkeypatch.setattr(LocalEngine, "score_pack", watched)
    assert run(tiny_tree(llama_folder), tmp_path / "run") == 130
    assert all(each.is_running(0) and each.process == os.getpid() for each in seen)
    assert seen[-1].phase == "packs" or seen[-1].phase.startswith(("fitting", "states")), seen
    assert told(tmp_path / "run").stopped == "interrupted" and not told(tmp_path / "run").is_running(0)
    seen += [seen[0]] * 3
    assert run(tiny_tree(llama_folder), tmp_path / "run") == 0
    assert not (tmp_path / "run" / PROGRESS).exists()


def test_bad_input_leaves_no_progress(llama_folder, tmp_path):
    tree = tiny_tree(llama_folder, interventions={"z": {"op": "zero", "layers": [99]}})
    assert run(tree, tmp_path / "run") == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RemoteRunError("host", "is silent\nfor 60 s", "try again"), "host: is silent for 60 s; try again"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
        (ValueError("a\nb"), "ValueError: a b"),
    ],
)  # fmt: skip
def test_it_says_why_it_stopped(tmp_path, error, line):
    with pytest.raises(type(error)), told_in(tmp_path) as tick:
        tick("packs", 2, 7)
        raise error
    left = told(tmp_path)
    assert (left.phase, left.done, left.of, left.stopped) == ("packs", 2, 7, line)


def test_what_runs_is_told_from_what_was_killed(tmp_path):
    with told_in(tmp_path):
        (tmp_path / "copy").mkdir()
        own = told(tmp_path)
        written = (tmp_path / PROGRESS).stat().st_mtime
        assert own.is_running(written) and own.begun <= written + 1
    assert read_told(tmp_path) is None
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    assert not psutil.pid_exists(int(gone.stdout)) and not replace(own, process=int(gone.stdout)).is_running(written)
    ended = subprocess.Popen([sys.executable, "-c", ""])  # and nobody has asked for its status yet
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    born = psutil.Process(ended.pid).create_time()
    assert not replace(own, process=ended.pid, born=born).is_running(written)
    ended.wait()
    assert not replace(own, born=own.born - 60).is_running(written)  # another process of the same number
    assert not replace(own, stopped="interrupted").is_running(written)
    elsewhere = replace(own, machine="elsewhere", process=0)
    assert elsewhere.is_running(written) and not elsewhere.is_running(written - 3600)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": 1}', '{"unknown": 1}'])
def test_a_damaged_one_tells_nothing(tmp_path, text):
    (tmp_path / PROGRESS).write_text(text)
    assert read_told(tmp_path) is None


def test_a_disk_that_is_full_costs_no_run(tmp_path, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    with told_in(tmp_path) as tick:
        monkeypatch.setattr("patchboard.store.progress.atomically", full)
        tick("packs", 1, 2)
    assert not (tmp_path / PROGRESS).exists()


def test_it_is_written_each_second_and_not_each_step(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("patchboard.store.progress.time.monotonic", lambda: now[0])
    with told_in(tmp_path) as tick:
        for done in range(4):
            tick("packs", done, 4)
        assert told(tmp_path).done == 0  # as the phase began
        now[0] = 1.5
        tick("packs", 3, 4)
        assert told(tmp_path).done == 3
        tick("states", 1, 9)
        assert (told(tmp_path).phase, told(tmp_path).of) == ("states", 9)
