"""The page on this machine alone: behind a token, read-only, and of the runs' files alone."""

from __future__ import annotations

import hmac
import secrets
import shutil
import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from patchboard.errors import PatchboardError, SpecError
from patchboard.view.page import index_page, rows_text
from patchboard.view.site import TYPES, Site

HOST = "127.0.0.1"
_NAMES = (HOST, "localhost", "::1")
"""What a browser on this machine may call it, at whatever port a tunnel has. Another name is a page elsewhere whose own
address was made to lead here (DNS rebinding)."""

_SILENCE = 30.0
"""Seconds that a request may take to arrive."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_APART = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Policy of a run's page, which may come from anywhere: it asks for nothing, and what it runs has no part in this
origin. The page's own policy, which names its scripts, holds beside it."""

_TEXT = "text/plain; charset=utf-8"


class Refused(Exception):
    """A request that gets a line and no content."""

    def __init__(self, status: HTTPStatus, line: str):
        self.status = status
        super().__init__(line)


class ViewServer(socketserver.ThreadingTCPServer):
    """Serves a folder's runs on 127.0.0.1. port: 0 for any free one. Raises SpecError where it is taken."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, root: Path, port: int = 0):
        self.site = Site(root)
        self.token = secrets.token_urlsafe(24)
        self.comparing = Lock()
        """Held while a comparison is made: it takes seconds of all cores, and a page may be asked for twice."""
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            what = f"port {port} cannot be opened ({error.strerror})"
            raise SpecError("--port", what, "give another, or 0 for any free one") from None

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error; anything else is a line."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            print(f"a request failed ({type(error).__name__}: {error})", file=sys.stderr)


class Handler(BaseHTTPRequestHandler):
    server: ViewServer  # pyright: ignore[reportIncompatibleVariableOverride]  # ours alone makes it
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "patchboard", ""
    timeout = _SILENCE

    def do_GET(self) -> None:
        try:
            self._check()
            self._answer()
        except Refused as error:
            self._say(error.status, str(error))
        except PatchboardError as error:
            self._say(HTTPStatus.CONFLICT, error.one_line())
        except OSError:
            raise  # of the connection
        except Exception as error:  # a damaged run is no reason for silence
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, " ".join(f"{type(error).__name__}: {error}".split()))

    do_HEAD = do_GET

    def _check(self) -> None:
        """Raises Refused for a request that is not the user's own browser's."""
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or _host_of(hosts[0]) not in _NAMES:
            raise Refused(HTTPStatus.FORBIDDEN, f"this is {HOST} or localhost, and no other name")
        if not hmac.compare_digest(self._segments()[0].encode(), self.server.token.encode()):
            line = "the address needs the token that `patchboard view` has printed"
            raise Refused(HTTPStatus.FORBIDDEN, line)

    def _segments(self) -> list[str]:
        """Parts of the path, the token first."""
        return [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]] or [""]

    def _answer(self) -> None:
        asked = "/".join(self._segments()[1:])
        site = self.server.site
        if asked == "":
            if not urlsplit(self.path).path.endswith("/"):
                raise Refused(HTTPStatus.NOT_FOUND, "the address ends with /")
            text, policy = index_page(site.root, site.look(), live=True)
            self._send(text.encode(), TYPES[".html"], policy)
        elif asked == "rows.json":
            self._send(rows_text(site.look()).encode(), TYPES[".json"])
        elif asked == "compare":
            self._send(self._comparison().encode(), TYPES[".html"], _APART)
        else:
            self._send_file(site.file(asked))

    def _comparison(self) -> str:
        from patchboard.report.page import comparison

        known = {shown.at: shown.path for shown in self.server.site.look() if shown.comparable}
        chosen = parse_qs(urlsplit(self.path).query).get("run", [])
        if len(chosen) < 2 or not all(each in known for each in chosen):
            raise Refused(HTTPStatus.NOT_FOUND, "compare takes two or more finished runs that are on the page")
        with self.server.comparing:
            return comparison(known[chosen[0]], [known[each] for each in chosen[1:]])

    def _send_file(self, file: Path | None) -> None:
        if file is None:
            raise Refused(HTTPStatus.NOT_FOUND, "no such file is on the page")
        try:
            opened = open(file, "rb")
        except OSError as error:
            raise Refused(HTTPStatus.NOT_FOUND, f"the file cannot be read ({error.strerror})") from None
        with opened:
            size = opened.seek(0, 2)
            opened.seek(0)
            self._head(HTTPStatus.OK, TYPES[file.suffix], size, _APART)
            if self.command != "HEAD":
                shutil.copyfileobj(opened, self.wfile)

    def _say(self, status: HTTPStatus, line: str) -> None:
        self._send(f"{line}\n".encode(), _TEXT, status=status)

    def _send(self, body: bytes, kind: str, policy: str = _APART, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._head(status, kind, len(body), policy)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, size: int, policy: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Content-Security-Policy", policy)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Of requests that the library refuses: other methods (501 there), and what is no HTTP."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self.close_connection = True  # a body may follow, which nobody reads
        self.command = getattr(self, "command", None) or "GET"
        self._say(status, "the page can be read, and nothing else" if status == 405 else status.phrase)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not told: their addresses hold the token."""


def _host_of(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
