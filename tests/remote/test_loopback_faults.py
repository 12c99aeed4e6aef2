"""Faults of the loopback server that answer wrongly, and what a stock nnsight client makes of each."""

from __future__ import annotations

import pickle
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import zstandard

from tests.remote.conftest import LoopbackServer
from tests.remote.faults import FAULTS
from tests.remote.stock import IDS, backend_of, blocking, polled, remote_error, submitted

SUBMISSIONS = {
    "refuse_submit": "Failed to send request: Internal Server Error",
    "bad_gateway": "Failed to send request: <html>",
    "forbidden": "Failed to send request: Invalid API key",
    "drop_connection": "Failed to send request: .*(reset|disconnected)",
}

pytestmark = pytest.mark.slow
"""By their number, and of the server itself: what our client makes of faults is in test_remote_faults."""


@pytest.mark.parametrize("fault", SUBMISSIONS)
def test_refused_submission(server, client, fault):
    """A RemoteError with the reason; no job is made, and the next one succeeds."""
    server.fault(fault)
    with pytest.raises(remote_error(), match=SUBMISSIONS[fault]):
        submitted(client, server.url)
    assert not [entry for entry in server.log("request") if entry["id"]]
    assert polled(submitted(client, server.url)) is not None


def test_nobody_listens(server, client):
    """After a stop: refused. After a restart: the same port, and no memory of jobs."""
    before = submitted(client, server.url)
    assert polled(before) is not None
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        blocking(client, {"remote": server.url})
    with pytest.raises(remote_error(), match="Connection refused"):
        submitted(client, server.url)
    with pytest.raises(httpx.ConnectError):
        before()
    server.start()
    assert before() is None
    assert blocking(client, {"remote": server.url}) is not None


JOBS = {
    "server_error": r"(?s)Traceback \(most recent call last\).*RuntimeError: the deployment failed on purpose",
    "out_of_memory": r"(?s)Traceback .*OutOfMemoryError: CUDA out of memory\. Tried to allocate 20\.00 GiB",
}


@pytest.mark.parametrize("fault", JOBS)
def test_job_that_fails(server, client, fault):
    """RemoteError with the server's traceback as text, whichever way a client waits."""
    server.fault(fault, times=2)
    with pytest.raises(remote_error(), match=JOBS[fault]):
        blocking(client, {"remote": server.url})
    with pytest.raises(remote_error(), match=JOBS[fault]):
        polled(submitted(client, server.url))
    assert polled(submitted(client, server.url)) is not None


def test_out_of_memory_of_large_jobs_only(server, client):
    size = polled(submitted(client, server.url)) and server.log("request")[0]["bytes"]
    server.fault("out_of_memory", times=-1, above=2 * size)
    assert polled(submitted(client, server.url)) is not None
    server.fault("out_of_memory", times=-1, above=size // 2)
    with pytest.raises(remote_error(), match="out of memory"):
        polled(submitted(client, server.url))


def test_error_in_the_block_comes_with_its_line(server, client):
    with pytest.raises(remote_error(), match=r"(?s)tensor\(1\) \+ undefined_name.*NameError.*undefined_name"):
        with client.trace(IDS, remote=server.url):
            torch.tensor(1) + undefined_name  # pyright: ignore  # noqa: B018, F821


def test_restart_forgets_finished_jobs(server, client):
    backend = submitted(client, server.url)
    assert polled(backend) is not None
    server.fault("restart")
    assert backend() is None


RESULTS = {
    "truncated_result": httpx.RemoteProtocolError,
    "missing_result": httpx.HTTPStatusError,
    "cut_result": zstandard.ZstdError,
    "garbage_result": zstandard.ZstdError,
}


@pytest.mark.parametrize("fault", RESULTS)
def test_damaged_result(server, client, fault):
    server.fault(fault)
    backend = submitted(client, server.url)
    with pytest.raises(RESULTS[fault]):
        polled(backend)
    assert backend() is not None  # the result itself is whole: it can be fetched again


def test_result_of_another_setting_of_compression(server, client):
    backend = submitted(client, server.url)
    assert polled(backend) is not None
    again = backend_of(client, server.url, job_id=backend.job_id)
    again.compress = False
    with pytest.raises(pickle.UnpicklingError):
        again()


def test_stock_client_takes_another_jobs_answer(server, client):
    """It compares no ids: what it is given is the result."""
    first = polled(submitted(client, server.url, layer=0))["found"]
    server.fault("wrong_result")
    assert torch.equal(polled(submitted(client, server.url, layer=3))["found"], first)
    server.fault("wrong_id", times=-1)
    backend = submitted(client, server.url, layer=3)
    assert not torch.equal(polled(backend)["found"], first)
    assert httpx.get(f"{server.url}/response/{backend.job_id}").json()["id"] != backend.job_id


def told_by(server: LoopbackServer, path: str) -> Any:
    return httpx.get(server.url + path).json()


def test_what_the_host_says_of_itself(server):
    def levels() -> set[str]:
        deployments = told_by(server, "/status")["deployments"].values()
        return {entry["deployment_level"] for entry in deployments if entry["repo_id"] == "meta-llama/Llama-3.1-70B"}

    def version() -> str:
        return told_by(server, "/env")["packages"]["nnsight"]

    for fault in ("cold", "absent", "old_versions"):
        server.fault(fault)
    assert [levels(), version()] == [{"COLD"}, "0.5.15"]  # one fault a question, in the order of their arming
    assert [levels(), version()] == [set(), metadata.version("nnsight")]
    assert levels() == {"HOT"}
    server.fault("no_status", on="env")
    assert httpx.get(f"{server.url}/status").status_code == 200
    assert httpx.get(f"{server.url}/env").status_code == 503


def test_unknown_fault_is_refused(server):
    assert httpx.post(f"{server.url}/fault", json={"name": "no_such"}).status_code == 400


def test_every_fault_is_tried():
    text = "".join(file.read_text() for file in Path(__file__).parent.glob("test_loopback_*.py"))
    assert not [name for name in FAULTS if f'"{name}"' not in text]
