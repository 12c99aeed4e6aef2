"""Each fault of a host ends in a result or in one line; the same command then gives the table of an undisturbed run."""

from __future__ import annotations

import pytest

from tests.contract.tiny import manifest_of
from tests.remote.runs import assert_same_bytes, run_remotely, table

QUICK = ("--quiet", "--patience", "1.5")
IN_DEFAULT_SUITE = {"a job is lost", "half a result", "refuses", "error"}
"""One of each way of failing; the others are slow by their number alone."""


def cases(table):
    """Test parameters of the table's entries."""
    return [
        pytest.param(value, id=name, marks=() if name in IN_DEFAULT_SUITE else pytest.mark.slow)
        for name, value in table.items()
    ]


OVERCOME = {
    "refused once": [("refuse_submit", {})],
    "a gateway's page of HTML": [("bad_gateway", {})],
    "cut off while sending": [("drop_connection", {"on": "request"})],
    "cut off while asking": [("drop_connection", {"on": "response"})],
    "cut off while fetching": [("drop_connection", {"on": "result"})],
    "silent to a question": [("silent_poll", {})],
    "silent to a fetch": [("silent_result", {})],
    "silent after the headers": [("silent_result", {"headers": True})],
    "a job is lost": [("lose_job", {})],
    "all jobs are lost": [("slow", {"seconds": 1}), ("restart", {})],
    "another job's status": [("wrong_id", {})],
    "another job's result": [("wrong_result", {})],
    "half a result": [("truncated_result", {})],
    "half a result that claims to be whole": [("cut_result", {})],
    "a result of noise": [("garbage_result", {})],
    "no result where it should be": [("missing_result", {})],
    "no status page for a moment": [("no_status", {"on": "env"})],
    "preempted": [("server_error", {"text": "Exception: Your job was cancelled or preempted by the server."})],
}
"""What passes, by itself or by asking again."""

STOPPED = {
    "refuses": ("refuse_submit", {}, "answers 500"),
    "html": ("bad_gateway", {}, "answers 502"),
    "silent": ("silent_submit", {}, "no answer within"),
    "silent later": ("silent_poll", {}, "no answer within"),
    "silent at the end": ("silent_result", {}, "does not hand over its result"),
    "drops": ("drop_connection", {"on": "response"}, "the connection broke"),
    "error": ("server_error", {"text": "Traceback:\nRuntimeError: einsum went wrong"}, "einsum went wrong"),
    "timeout": ("server_error", {"text": "Exception: Job took longer than timeout: 60 seconds"}, "--job-tokens"),
    "loses": ("lose_job", {}, "is unknown to the host"),
    "wrong id": ("wrong_id", {}, "another job's status"),
    "truncates": ("truncated_result", {}, "the connection broke"),
    "cuts": ("cut_result", {}, "cannot be read"),
    "garbage": ("garbage_result", {}, "cannot be read"),
    "missing": ("missing_result", {}, "404"),
    "hang": ("hang", {}, "without news"),
}
"""What does not: (fault for ever, its options, what the line says)."""


@pytest.fixture(scope="module")
def undisturbed(servers, llama_snapshot, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert run_remotely(llama_snapshot, servers(), folder, "--quiet")[0] == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("faults", cases(OVERCOME))
def test_what_passes_is_overcome(server, llama_snapshot, undisturbed, tmp_path, faults):
    for name, options in faults:
        server.fault(name, **options)
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", *QUICK)
    assert (status, err) == (0, "")
    assert_same_bytes(tmp_path / "run", undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("fault", cases(STOPPED))
def test_what_does_not_pass_is_one_line_and_resumes(server, llama_snapshot, undisturbed, tmp_path, fault):
    name, options, said = fault
    server.fault(name, times=-1, **options)
    patience = "3" if name == "hang" else "1"
    status, out, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--quiet", "--patience", patience)
    assert status == 3 and out == ""
    (line,) = err.splitlines()
    assert line.startswith(f"error: {server.url}: ") and said in line, line
    assert "jobs are done and kept" in line
    server.clear()
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", *QUICK)
    assert (status, err) == (0, "")
    assert_same_bytes(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_other_jobs_results_for_ever_are_never_taken(server, llama_snapshot, undisturbed, tmp_path):
    """Each job is sent again until the earlier result that is handed over is its own."""
    server.fault("wrong_result", times=-1)
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--patience", "1.5")
    assert status == 0 and "its key is" in err and "sent again" in err
    assert_same_bytes(tmp_path / "run", undisturbed)


@pytest.mark.slow
def test_memory_that_suffices_for_halves(server, llama_snapshot, undisturbed, tmp_path):
    server.fault("out_of_memory", times=2)
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--patience", "1.5")
    assert status == 0 and err.count("out of memory on the host, cut in halves") == 2
    assert_same_bytes(tmp_path / "run", undisturbed)  # the survey was halved, twice: nothing that came after it
    assert halvings(tmp_path / "run") == {"survey": 2, "cd-1": 0, "cells-1": 0}


@pytest.mark.slow
def test_a_job_that_does_not_fit_is_halved_alone(server, llama_snapshot, undisturbed, tmp_path):
    """The largest of several. It is given up, then resumed: halved as often as before, and the others cut as ever."""
    arguments = ("--quiet", "--job-tokens", "500", "--patience", "1.5")
    assert run_remotely(llama_snapshot, server, tmp_path / "whole", *arguments)[0] == 0
    jobs = {job["name"]: job for job in manifest_of(tmp_path / "whole")["models"][0]["jobs"]}
    cells = [name for name in jobs if name.startswith("cells")]
    *_, second, largest = sorted(cells, key=lambda name: jobs[name]["bytes_up"])
    assert len(cells) >= 4 and largest != cells[-1]
    server.clear()
    between = (jobs[second]["bytes_up"] + jobs[largest]["bytes_up"]) // 2
    server.fault("out_of_memory", times=-1, above=between, spared=1)  # the survey comes first, and is as large
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", *arguments)
    assert status == 3 and f"job {largest} does not fit in its memory" in err
    known = {entry["id"] for entry in server.log("request")}
    server.clear()
    assert run_remotely(llama_snapshot, server, tmp_path / "run", *arguments)[0] == 0
    found = halvings(tmp_path / "run")
    assert found.pop(largest) > 1 and set(found.values()) == {0} and {*found, largest} == set(jobs)
    (entry,) = manifest_of(tmp_path / "run")["models"]
    again = {entry["id"] for entry in server.log("request")}
    assert {job["id"] for job in entry["jobs"]} - known == again, "what was home is not sent again"
    for job in entry["jobs"]:
        assert job["name"] == largest or job["tokens"] == jobs[job["name"]]["tokens"]
    got, expected = (table(folder, "outcomes.parquet") for folder in (tmp_path / "run", undisturbed))
    assert (got["patched"] - expected["patched"]).abs().max() < 1e-5  # sums over batches of another shape


def halvings(folder) -> dict[str, int]:
    (entry,) = manifest_of(folder)["models"]
    found = {job["name"]: job["halved"] for job in entry["jobs"]}
    assert entry["budget"]["halved"] == sum(found.values())
    return found


@pytest.mark.slow
def test_memory_that_is_never_enough(server, llama_snapshot, tmp_path):
    server.fault("out_of_memory", times=-1)
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", *QUICK)
    (line,) = err.splitlines()
    assert status == 3 and "does not fit in its memory" in line
