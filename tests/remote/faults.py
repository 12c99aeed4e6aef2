"""The faults that a test can switch on over HTTP, and what the server has seen."""

from __future__ import annotations

import threading
import time
from typing import Any

FAULTS = {
    "refuse_submit": "POST /request: 500 with a JSON detail (status, detail)",
    "bad_gateway": "POST /request: 502 with a page of HTML",
    "forbidden": "POST /request: 403",
    "drop_connection": "the TCP connection is closed in mid-request (on: request | response | result)",
    "silent_submit": "POST /request is taken and never answered (the job is not made; made: true makes it)",
    "silent_poll": "GET /response/{id} is never answered",
    "silent_result": "GET /result/{id} is never answered (headers: true: the body never comes)",
    "server_error": "the job ends in ERROR with a traceback (text)",
    "out_of_memory": "the job ends in ERROR as torch words it (above: only blobs of more bytes; spared: so many jobs)",
    "lose_job": "RECEIVED, and never heard of again: 404",
    "hang": "the job stays QUEUED for ever",
    "slow": "the job runs for so many seconds more (seconds)",
    "wrong_id": "GET /response/{id} answers about another id",
    "wrong_result": "GET /result/{id} delivers an earlier job's result, once there is one",
    "truncated_result": "Content-Length of the whole, half of the bytes",
    "cut_result": "half of the bytes, with a Content-Length to match",
    "garbage_result": "random bytes",
    "missing_result": "GET /result/{id}: 404",
    "restart": "at once: all jobs are forgotten and websockets cut, as after a restart",
    "cold": "/status: the served model is COLD",
    "absent": "/status: the served model is not listed",
    "old_versions": "/env: nnsight 0.5.15 (packages: {name: version})",
    "no_status": "/status and /env: 503 with a detail (on: status | env)",
}


class Faults:
    """Armed faults, each with how many times it is still to strike (-1: always)."""

    def __init__(self) -> None:
        self._armed: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()

    def arm(self, name: str, times: int = 1, **options: Any) -> None:
        if name not in FAULTS:
            raise KeyError(name)
        with self._lock:
            self._armed.append((name, {"times": times, **options}))

    def take(self, name: str, on: str | None = None, size: int = 0) -> dict[str, Any] | None:
        """The options of a fault that strikes now, counting it down; None where none is armed.

        on: the place that asks; a fault armed for another place stays. size: bytes of the job's blob.
        """
        with self._lock:
            for i, (armed, options) in enumerate(self._armed):
                elsewhere = on is not None and options.get("on", on) != on
                if armed != name or elsewhere:
                    continue
                if options.get("spared", 0) > 0:
                    options["spared"] -= 1
                    continue
                if size < options.get("above", 0):
                    continue
                options["times"] -= 1
                if options["times"] == 0:
                    del self._armed[i]
                return options
        return None

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()


class Log:
    """What was received, in order: `kind` (request, response, result, status …), `time`, and more by kind."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def add(self, kind: str, **found: Any) -> None:
        self.entries.append({"kind": kind, "time": time.time(), **found})

    def clear(self) -> None:
        self.entries.clear()
