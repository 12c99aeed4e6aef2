"""A stand-in of the Hub: one repository, whose files can be fetched and into which files can be uploaded."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "hf_stand_in"


class StandIn:
    """folder: the files of the repository. commit: of its branch main. asked: paths, in their order. created: requests
    for a repository."""

    def __init__(self, repo: str, folder: Path):
        self.repo, self.folder, self.commit = repo, folder, "0" * 39 + "1"
        self.url = ""
        self.asked: list[str] = []
        self.created: list[dict[str, Any]] = []


@contextmanager
def stand_in(repo: str, folder: Path, silent_for: Callable[[str], bool] = lambda file: False) -> Iterator[StandIn]:
    """silent_for: files that are asked for in vain, for half a minute."""
    hub = StandIn(repo, folder)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._file(with_body=False)

        def do_GET(self) -> None:
            self._file(with_body=True)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])) if "Content-Length" in self.headers else b""
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                body = self._chunks()
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._json({"error": "Invalid username or password."}, 401)
            elif self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self._json({"url": f"{hub.url}/{hub.repo}"})
            elif self.path == f"/api/models/{hub.repo}/preupload/main":
                files = json.loads(body)["files"]
                answer = [{"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in files]
                self._json({"files": answer})
            elif self.path == f"/api/models/{hub.repo}/commit/main":
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        file = hub.folder / entry["value"]["path"]
                        file.write_bytes(base64.b64decode(entry["value"]["content"]))
                hub.commit = hashlib.sha1(body).hexdigest()
                self._json({"commitUrl": f"{hub.url}/{hub.repo}/commit/{hub.commit}", "commitOid": hub.commit})
            elif self.path == "/api/validate-yaml":
                self._json({"errors": [], "warnings": []})
            else:
                self._json({"error": "not found"}, 404)

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _json(self, value: Any, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _file(self, with_body: bool) -> None:
            hub.asked.append(self.path)
            repo, _, rest = self.path.lstrip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            file = hub.folder / name
            if silent_for(file.name):
                time.sleep(30)
            listed = self.path.startswith(f"/api/models/{hub.repo}/")  # what else the repository may hold: nothing
            known, current = repo == hub.repo or listed, revision in ("main", hub.commit)
            there = repo == hub.repo and current and bool(name) and file.is_file()
            body = file.read_bytes() if there else b""
            self.send_response(200 if there else 404)
            if known:
                self.send_header("X-Repo-Commit", hub.commit)
            if not there:
                of_known = "EntryNotFound" if current or listed else "RevisionNotFound"
                self.send_header("X-Error-Code", of_known if known else "RepoNotFound")
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    yield hub
    server.shutdown()
    server.socket.close()
