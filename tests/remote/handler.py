"""What the server answers: NDIF's addresses, and ours for tests (/fault, /clear, /log)."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deployments import OLD, environment, status
from execution import Host
from faults import Faults, Log
from forms import parts
from frames import Connection, accept_of
from jobs import Jobs
from nnsight.schema.request import RequestModel

_WRONG_KEY = "Missing or invalid API key. Please visit https://login.ndif.us/ to create a new one."
_OLD_CLIENT = "Client nnsight version was not provided to the NDIF server."
_GATEWAY = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
)


class Server(ThreadingHTTPServer):
    daemon_threads = True  # a connection that is kept waiting does not keep the process alive
    request_queue_size = 64

    def __init__(self, port: int, host: Host, key: str | None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.host, self.key = host, key
        self.faults, self.log = Faults(), Log()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.jobs = Jobs(host.execute, self.faults, self.url)
        self.silence = threading.Event()

    def clear(self) -> None:
        """No faults, no log, no jobs; who was kept waiting is hung up on."""
        self.faults.clear()
        self.jobs.forget()
        self.log.clear()
        self.silence.set()
        self.silence = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        _, kind, *rest = self.path.split("?")[0].split("/")
        name = rest[0] if rest else ""
        answer = getattr(self, f"_get_{kind}", None)
        if answer is None:
            return self._json({"detail": "Not Found"}, 404)
        if kind != "log":
            self.server.log.add(kind, id=name)
        if not self._hangs_up(kind):
            answer(name)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.path == "/request" and self._hangs_up("request", length):
            return
        body = self.rfile.read(length)
        if self.path == "/request":
            return self._submit(body)
        if self.path == "/clear":
            self.server.clear()
        elif self.path == "/fault":
            options = json.loads(body)
            try:
                self.server.faults.arm(**options)
            except (KeyError, TypeError) as error:
                return self._json({"detail": f"no such fault: {error}"}, 400)
            if options["name"] == "restart":
                self.server.faults.take("restart")
                self.server.jobs.forget()
        else:
            return self._json({"detail": "Not Found"}, 404)
        self._json({})

    def _submit(self, body: bytes) -> None:
        strikes = self.server.faults.take
        try:
            fields = parts(body, self.headers["Content-Type"])
            request = RequestModel.model_validate_json(fields["data"])
            blob = fields["blob"]
        except (KeyError, ValueError, IndexError) as error:
            return self._json({"detail": [{"msg": str(error)}]}, 422)
        key = self.headers.get("ndif-api-key")
        seen = {"model_key": request.model_key, "session_id": request.session_id, "compress": request.compress,
                "env": request.env, "key": key, "nnsight": self.headers.get("nnsight-version")}  # fmt: skip

        def log(job: str | None, refused: int | None = None) -> None:
            self.server.log.add("request", id=job, bytes=len(blob), refused=refused, **seen)

        refusal: tuple[Any, int] | None = None
        if strikes("bad_gateway"):
            log(None, 502)
            return self._send(502, _GATEWAY.encode(), "text/html")
        if fault := strikes("refuse_submit"):
            refusal = fault.get("detail", "Internal Server Error"), fault.get("status", 500)
        elif strikes("forbidden"):
            refusal = "Invalid API key.", 403
        elif self.server.key is not None and key != self.server.key:
            refusal = _WRONG_KEY, 401
        elif not seen["nnsight"]:
            refusal = _OLD_CLIENT, 400
        if refusal is not None:
            log(None, refusal[1])
            return self._json({"detail": refusal[0]}, refusal[1])
        silent = strikes("silent_submit")
        if silent and not silent.get("made"):
            log(None)
            return self._keep_silent()
        response = self.server.jobs.submit(request, blob)
        log(response.id)
        if silent:
            return self._keep_silent()
        self._json(response.model_dump(mode="json"))

    def _get_ping(self, _: str) -> None:
        self._json("pong")

    def _get_log(self, _: str) -> None:
        self._json(list(self.server.log.entries))

    def _get_status(self, _: str) -> None:
        strikes, host = self.server.faults.take, self.server.host
        if strikes("no_status", on="status"):
            return self._json({"detail": "Status request timed out after 60 seconds"}, 503)
        cold = bool(strikes("cold"))
        absent = not cold and bool(strikes("absent"))
        self._json(status(host.repo, str(host.dtype).removeprefix("torch."), cold, absent))

    def _get_env(self, _: str) -> None:
        if self.server.faults.take("no_status", on="env"):
            return self._json({"detail": "Env request timed out after 60 seconds"}, 503)
        old = self.server.faults.take("old_versions")
        self._json(environment({} if old is None else old.get("packages", OLD)))

    def _get_whoami(self, _: str) -> None:
        key = self.headers.get("ndif-api-key")
        known = bool(key) and self.server.key in (None, key)
        self._json({"email": "tester@example.org" if known else None, "tags": []})

    def _get_response(self, job: str) -> None:
        if self.server.faults.take("silent_poll"):
            return self._keep_silent()
        found = self.server.jobs.response(job)
        if found is None:
            return self._json({"detail": f"No response for {job}"}, 404)
        if self.server.faults.take("wrong_id"):
            found = found.model_copy(update={"id": "00000000-0000-4000-8000-000000000000"})
        self._json(found.model_dump(mode="json"))

    def _get_result(self, job: str) -> None:
        strikes = self.server.faults.take
        silent = strikes("silent_result")
        if silent and not silent.get("headers"):
            return self._keep_silent()
        blob = self.server.jobs.result(job)
        if blob is None or strikes("missing_result"):
            return self._json({"detail": "NoSuchKey"}, 404)
        if (earlier := self.server.jobs.earlier_result(job)) is not None and strikes("wrong_result"):
            blob = earlier
        if strikes("garbage_result"):
            blob = os.urandom(len(blob))
        if strikes("cut_result"):
            blob = blob[: len(blob) // 2]
        promised = len(blob)
        if strikes("truncated_result"):
            blob = blob[: len(blob) // 2]
        self._send(200, b"" if silent else blob, "application/octet-stream", promised)
        if silent:
            self._keep_silent()
        elif promised != len(blob):
            self.close_connection = True

    def _get_subscribe(self, _: str) -> None:
        self.close_connection = True
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"),
                            ("Sec-WebSocket-Accept", accept_of(self.headers["Sec-WebSocket-Key"]))):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        connection = Connection(self.rfile, self.connection)  # pyright: ignore[reportArgumentType]
        session = self.server.jobs.subscribe(connection)
        connection.send(json.dumps({"session_id": session}))
        connection.serve()
        self.server.jobs.unsubscribe(session)

    def _keep_silent(self) -> None:
        self.close_connection = True
        self.server.silence.wait()

    def _hangs_up(self, kind: str, length: int = 0) -> bool:
        """Whether the connection was dropped in mid-request: half of its body read, and a reset."""
        if kind not in ("request", "response", "result"):
            return False
        fault = self.server.faults.take("drop_connection", on=kind)
        if fault is None or fault.get("on", "request") != kind:
            return False
        self.rfile.read(length // 2)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
        return True

    def _json(self, answer: Any, code: int = 200) -> None:
        self._send(code, json.dumps(answer).encode(), "application/json")

    def _send(self, code: int, body: bytes, kind: str, promised: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if promised is None else promised))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass  # GET /log has it
