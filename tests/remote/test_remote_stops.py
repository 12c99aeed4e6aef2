"""kill -9, Ctrl-C and a server that restarts, in each phase: the rerun gives the uninterrupted run's bytes."""

from __future__ import annotations

import signal

import pytest

from patchboard.store.progress import read_told
from tests.contract.tiny import write
from tests.remote.runs import assert_same_bytes, done, kill, run_remotely, start, tree_of, wait_for

pytestmark = pytest.mark.slow
"""Each starts two processes and more."""

SMALL = ("--quiet", "--job-tokens", "150")
PHASES = [
    *(pytest.param(*phase, marks=pytest.mark.slow) for phase in (("response", 1), ("request", 2), ("result", 2))),
    *(pytest.param(*phase, marks=pytest.mark.slow) for phase in (("request", 4), ("result", 4), ("request", 1))),
    ("result", 1),
]
"""What the server has seen when the client dies: a job sent, asked for, fetched; the first, the second, a later one."""


@pytest.fixture(scope="module")
def undisturbed(servers, llama_snapshot, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    status, _, err = run_remotely(llama_snapshot, servers(), folder, *SMALL)
    assert status == 0, err
    return folder


@pytest.mark.parametrize("kind, count", PHASES)
def test_kill_and_rerun(server, llama_snapshot, undisturbed, tmp_path, kind, count):
    spec = write(tree_of(llama_snapshot), tmp_path / "spec.yaml")
    server.fault("slow", times=-1, seconds=0.1)
    process = start(llama_snapshot, server, spec, tmp_path / "run", *SMALL)
    wait_for(server, kind, count, process)
    kill(process)
    told, written = read_told(tmp_path / "run") or (None, 0)
    assert told and told.phase in ("first job", "jobs for CD", "jobs") and not told.is_running(written)
    fetched = {entry["id"] for entry in server.log("result")}
    status, _, err = done(start(llama_snapshot, server, spec, tmp_path / "run", *SMALL))
    assert (status, err) == (0, "")
    assert_same_bytes(tmp_path / "run", undisturbed)
    sent = [entry["id"] for entry in server.log("request")]
    assert len(sent) <= undisturbed_jobs(undisturbed) + 1, "what was sent and noted is picked up, not sent again"
    kept = [entry["id"] for entry in server.log("result")]
    assert len(kept) <= len(set(kept)) + len(fetched), "a result that was kept is not fetched again"


def undisturbed_jobs(folder) -> int:
    from tests.contract.tiny import manifest_of

    return len(manifest_of(folder)["models"][0]["jobs"])


def test_interrupt_says_how_to_go_on(server, llama_snapshot, undisturbed, tmp_path):
    spec = write(tree_of(llama_snapshot), tmp_path / "spec.yaml")
    server.fault("slow", times=-1, seconds=0.3)
    process = start(llama_snapshot, server, spec, tmp_path / "run", *SMALL)
    wait_for(server, "request", 2, process)
    status, _, err = kill(process, signal.SIGINT)
    assert status == 130 and "the same command resumes" in err and "Traceback" not in err
    status, _, err = done(start(llama_snapshot, server, spec, tmp_path / "run", *SMALL))
    assert (status, err) == (0, "")
    assert_same_bytes(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_server_restarts_between_jobs(server, llama_snapshot, undisturbed, tmp_path):
    """Nothing listens for a while, then a server that knows none of our jobs."""
    spec = write(tree_of(llama_snapshot), tmp_path / "spec.yaml")
    process = start(llama_snapshot, server, spec, tmp_path / "run", *SMALL, "--patience", "20")
    wait_for(server, "result", 2, process)
    server.restart()
    status, _, err = done(process)
    assert (status, err) == (0, "")
    assert_same_bytes(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_server_that_is_gone(server, llama_snapshot, undisturbed, tmp_path):
    spec = write(tree_of(llama_snapshot), tmp_path / "spec.yaml")
    process = start(llama_snapshot, server, spec, tmp_path / "run", *SMALL, "--patience", "1")
    wait_for(server, "result", 2, process)
    server.stop()
    status, _, err = done(process)
    server.start()
    (line,) = err.splitlines()
    assert status == 3 and "cannot be reached" in line and "jobs are done and kept" in line
    status, _, err = done(start(llama_snapshot, server, spec, tmp_path / "run", *SMALL))
    assert (status, err) == (0, "")
    assert_same_bytes(tmp_path / "run", undisturbed)
