"""Faults of the loopback server that do not answer at all: a stock nnsight client waits, and others are served."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.remote.conftest import LoopbackServer
from tests.remote.stock import PATIENCE, backend_of, blocking, polled, remote_error, submitted

pytestmark = pytest.mark.slow
"""By their number, and of the server itself: what our client makes of faults is in test_remote_faults."""


def waits(call: Callable[[], Any], server: LoopbackServer) -> bool:
    """Whether a call is still without an answer after PATIENCE; it is then hung up on."""
    ended: list[BaseException | None] = []

    def run() -> None:
        try:
            call()
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    waiting = not ended
    server.clear()  # other connections are answered meanwhile, this one too
    thread.join(10)
    assert ended
    return waiting


def polling(model: Any, url: str) -> Any:
    return polled(submitted(model, url))


SILENT: dict[str, Callable[[Any, str], Any]] = {
    "silent_submit": submitted,
    "silent_poll": polling,
    "silent_result": polling,
    "hang": lambda model, url: blocking(model, {"remote": url}),
}


@pytest.mark.parametrize("fault", SILENT)
def test_silence(server, client, fault):
    server.fault(fault)
    assert waits(lambda: SILENT[fault](client, server.url), server)
    assert polled(submitted(client, server.url)) is not None


def test_a_result_that_never_comes(server, client):
    server.fault("silent_result", headers=True)
    assert waits(lambda: blocking(client, {"remote": server.url}), server)


def test_silent_submit_that_made_its_job(server, client):
    """The answer is lost, the job is not: who learns its id gets its result."""
    server.fault("silent_submit", made=True)
    thread = threading.Thread(target=pytest.raises, args=(remote_error(), submitted, client, server.url))
    thread.start()
    deadline = time.monotonic() + 5
    while not (seen := server.log("request")) and time.monotonic() < deadline:
        time.sleep(0.02)
    backend = backend_of(client, server.url, job_id=seen[0]["id"])
    assert polled(backend) is not None
    server.clear()
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("fault", ["hang", "lose_job"])
def test_job_that_never_ends(server, client, fault):
    """Queued for ever, or unknown for ever: both are None to a client that polls."""
    server.fault(fault)
    backend = submitted(client, server.url)
    assert polled(backend, 0.3) is None
    assert backend.status.value == {"hang": "QUEUED", "lose_job": "RECEIVED"}[fault]
    assert httpx.get(f"{server.url}/response/{backend.job_id}").status_code == {"hang": 200, "lose_job": 404}[fault]
    assert polled(submitted(client, server.url)) is not None  # the worker is free


def test_slow_job_runs_meanwhile(server, client):
    server.fault("slow", seconds=1.5)
    backend = submitted(client, server.url)
    seen = set()
    while (found := backend()) is None:
        seen.add(backend.status.value)
        time.sleep(0.02)
    assert "RUNNING" in seen and found.keys() == {"found"}


def test_a_silent_server_dies_of_sigterm(server):
    server.fault("silent_poll", times=-1)
    thread = threading.Thread(target=lambda: pytest.raises(httpx.HTTPError, httpx.get, f"{server.url}/response/x"))
    thread.start()
    time.sleep(0.1)
    server.process.terminate()
    assert server.process.wait(timeout=5) is not None
    thread.join(5)
