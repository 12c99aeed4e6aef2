"""A loopback stand-in for the W&B service: as much of it as the real ``wandb`` client and agent ask for.

It keeps what arrives: sweeps, runs with config, history, summary, exit code and log, and uploaded files. Grids are
enumerated as W&B does it; nothing else of a search is imitated.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any

import yaml

KEY = "0" * 40
ENTITY, PROJECT = "lab", "patchboard"


@dataclass
class Run:
    """What arrived of one run."""

    name: str
    sweep: str = ""
    group: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Line of the history's file -> row."""
    summary: dict[str, Any] = field(default_factory=dict)
    log: dict[int, str] = field(default_factory=dict)
    exit_code: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """The history in its order, keys of wandb's own left out."""
        return [
            {key: value for key, value in self.history[line].items() if not key.startswith("_")}
            for line in sorted(self.history)
        ]

    @property
    def text(self) -> str:
        return "\n".join(self.log[line] for line in sorted(self.log))


@dataclass
class Service:
    """The state behind the requests; ``operations`` lists the names of all that were asked for."""

    url: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    sweeps: dict[str, dict[str, Any]] = field(default_factory=dict)
    pending: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    stop_runs: bool = False
    """Whether heartbeats tell agents to stop what they run, as the page's "Stop run" does."""
    refuses: bool = False
    """Whether every key is refused, as one that was revoked is."""
    hangs: bool = False
    """Whether questions are taken and never answered, as by an overloaded host behind a proxy that works."""
    lock: RLock = field(default_factory=RLock)

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.operations.append(operation)
            known: Callable[[dict[str, Any]], dict[str, Any]] | None = getattr(self, f"_{operation}", None)
            return known(given) if known else {}

    def _Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        return {
            "viewer": {
                "id": "u", "entity": ENTITY, "username": "u", "email": "", "flags": "{}", "teams": {"edges": []},
                "apiKeys": {"edges": []},
            }
        }  # fmt: skip

    def _ServerFeaturesQuery(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _UpsertSweep(self, given: dict[str, Any]) -> dict[str, Any]:
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = yaml.safe_load(given["config"])
        if self.sweeps[name]["method"] == "grid":
            self.pending[name] = grid(self.sweeps[name]["parameters"])
        return {
            "upsertSweep": {"sweep": {"name": name, "id": name, "project": _project()}, "configValidationWarnings": []}
        }

    def _SweepWithRuns(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["sweep"]
        config = yaml.safe_dump(self.sweeps[name])
        return {
            "project": {
                "sweep": {
                    "id": name, "name": name, "method": "grid", "state": "RUNNING", "description": "", "config": config,
                    "createdAt": "2026-01-01T00:00:00", "runs": {"edges": []}, "controller": "{}", "scheduler": "{}",
                }
            }
        }  # fmt: skip

    def _CreateAgent(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": given["sweep"]}}}

    def _Heartbeat(self, given: dict[str, Any]) -> dict[str, Any]:
        sweep = given["id"]
        running = json.loads(given["runState"])
        if running:
            commands = [{"type": "stop", "run_id": run} for run in running] if self.stop_runs else []
        elif self.pending[sweep] and not self.stop_runs:
            args = self.pending[sweep].pop(0)
            name = f"{sweep}run{len(self.sweeps[sweep].setdefault('given', []))}"
            self.sweeps[sweep]["given"].append(name)
            program = self.sweeps[sweep]["program"]
            commands = [{"type": "run", "run_id": name, "args": args, "program": program}]
        else:
            commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": sweep}, "commands": json.dumps(commands)}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        if run is None:
            return {"model": None}
        lines = [json.dumps(run.history[line]) for line in sorted(run.history)]
        bucket = {
            "id": run.name, "name": run.name, "summaryMetrics": json.dumps(run.summary), "displayName": run.name,
            "logLineCount": len(run.log), "historyLineCount": len(lines), "eventsLineCount": 0,
            "historyTail": json.dumps(lines[-1:]), "eventsTail": "[]", "config": json.dumps(run.config),
            "tags": [], "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip
        return {"model": {**_project(), "bucket": bucket}}

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        inserted = given["name"] not in self.runs
        run = self.runs.setdefault(given["name"], Run(given["name"]))
        run.sweep = given.get("sweep") or run.sweep
        run.group = given.get("groupName") or run.group
        run.config |= json.loads(given.get("config") or "{}")
        run.summary |= json.loads(given.get("summaryMetrics") or "{}")
        bucket = {
            "id": run.name, "name": run.name, "displayName": given.get("displayName") or run.name, "config": "{}",
            "sweepName": run.sweep or None, "project": _project(), "historyLineCount": len(run.history),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/put/{given['run']}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        artifact = {"id": f"artifact{len(self.operations)}", "state": "PENDING", "artifactSequence": {"id": "s"}}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:
        file = {"id": "f", "uploadUrl": f"{self.url}/put/artifact/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}

    def _CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                "id": f"f{number}", "name": file["name"], "displayName": file["name"], "uploadHeaders": [],
                "uploadUrl": f"{self.url}/put/artifact/{file['name']}", "storagePath": None,
                "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]},
            }
            for number, file in enumerate(given["input"]["artifactFiles"])
        ]  # fmt: skip
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": "a", "digest": "d"}}}

    def stream(self, name: str, sent: dict[str, Any]) -> None:
        """A POST of the file stream: lines of files from an offset on, and at last the exit code."""
        with self.lock:
            run = self.runs.setdefault(name, Run(name))
            for file, chunk in (sent.get("files") or {}).items():
                for line, text in enumerate(chunk["content"], start=chunk["offset"]):
                    if file == "wandb-history.jsonl":
                        run.history[line] = json.loads(text)
                    elif file == "wandb-summary.json":
                        run.summary |= json.loads(text)
                    elif file == "output.log":
                        run.log[line] = text
            if sent.get("complete"):
                run.exit_code = sent["exitcode"]

    def keep(self, path: str, body: bytes) -> None:
        owner, _, name = path.removeprefix("/put/").partition("/")
        with self.lock:
            self.runs.setdefault(owner, Run(owner)).files[name] = body


def grid(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    """The arguments of each point, as a heartbeat's ``run`` command has them."""
    values = [given["values"] if "values" in given else [given["value"]] for given in parameters.values()]
    return [
        {name: {"value": value} for name, value in zip(parameters, point, strict=True)}
        for point in itertools.product(*values)
    ]


def _project() -> dict[str, Any]:
    return {"id": "p", "name": PROJECT, "entity": {"id": "e", "name": ENTITY}}


@contextmanager
def serving() -> Iterator[Service]:
    """A service on a free port of the loopback interface."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            if service.hangs:
                self.rfile.read()  # until the client gives up
            elif service.refuses:
                self._answer({"error": "invalid API key"}, 401)
            elif self.path == "/graphql":
                asked = json.loads(body)
                operation = asked.get("operationName") or _operation(asked["query"])
                self._answer({"data": service.answer(operation, asked.get("variables") or {})})
            elif self.path.endswith("/file_stream"):
                service.stream(self.path.split("/")[-2], json.loads(body))
                self._answer({})
            else:
                self._answer({})

        def do_PUT(self) -> None:
            service.keep(self.path, self._body())
            self._answer({})

        def do_GET(self) -> None:
            self._answer({})

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
            return gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body

        def _answer(self, value: Any, status: int = 200) -> None:
            text = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed breaks off its connections: nothing to tell."""

    server = Server(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


def _operation(query: str) -> str:
    """The name behind ``query`` or ``mutation``."""
    return query.split("{")[0].split("(")[0].split()[1]
