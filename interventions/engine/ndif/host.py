"""Talking to a host, every exchange bounded in time as a whole.

nnsight's own client waits for ever on a server that falls silent (its time-outs count from the last byte, or
not at all), so requests are sent here, in its protocol: POST /request without a session, then GET /response/ID,
whose answers outlive any connection and any client.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib.metadata import version
from typing import Any

import httpx

_CONNECT = 10.0


class PassingFailure(Exception):
    """An exchange that failed in a way which may pass: refused, silent, cut off, 5xx, or unreadable."""


class HostRefusal(Exception):
    """The host's considered No (4xx): asking again gives the same."""

    def __init__(self, status: int, detail: str):
        self.status, self.detail = status, detail
        super().__init__(f"{status}: {detail}")


class Host:
    """One NDIF host. url: http(s)://…, key: the user's or empty, patience: seconds that one exchange may take."""

    def __init__(self, url: str, key: str, patience: float):
        self.url, self.key, self.patience = url.rstrip("/"), key, patience

    def get_json(self, path: str, seconds: float = 15.0) -> Any:
        """A small answer, asked for often enough within the patience. Raises PassingFailure or HostRefusal."""
        return _parsed(self._exchange("GET", f"{self.url}{path}", min(seconds, self.patience / 3)))

    def post(self, metadata: str, blob: bytes) -> Any:
        """Send one request; returns the host's first answer. Raises PassingFailure or HostRefusal."""
        seconds = 30.0 + len(blob) / 100_000  # on a line of 1 Mbit/s
        return _parsed(
            self._exchange(
                "POST", f"{self.url}/request", seconds,
                data={"data": metadata}, files={"blob": ("request", blob, "application/octet-stream")},
            )
        )  # fmt: skip

    def download(self, url: str, seconds: float = 300.0) -> bytes:
        """A result, whole. Raises PassingFailure or HostRefusal."""
        return self._exchange("GET", url if "://" in url else f"{self.url}{url}", seconds, ours=False)

    def _exchange(self, method: str, url: str, seconds: float, ours: bool = True, **content: Any) -> bytes:
        """ours: a path of the host's, which is told who we are; a result may lie with another service."""
        limit = min(seconds, self.patience)
        end = time.monotonic() + limit
        timeout = httpx.Timeout(limit, connect=min(_CONNECT, limit))
        try:
            with (
                httpx.Client(timeout=timeout, follow_redirects=True) as client,
                client.stream(method, url, headers=self._headers() if ours else {}, **content) as response,
            ):
                body = bytearray()
                for piece in response.iter_bytes():
                    body += piece
                    if time.monotonic() > end:
                        raise PassingFailure(f"no whole answer within {limit:.2g} s")
        except httpx.InvalidURL as error:
            raise HostRefusal(400, f"'{url}' is no URL") from error
        except httpx.TimeoutException as error:
            raise PassingFailure(f"no answer within {limit:.2g} s") from error
        except httpx.ConnectError as error:
            raise PassingFailure(f"cannot be reached ({_short(error)})") from error
        except httpx.HTTPError as error:
            raise PassingFailure(f"the connection broke ({_short(error)})") from error
        if response.status_code >= 500 or response.status_code in (408, 429):
            raise PassingFailure(f"answers {response.status_code} ({_detail(bytes(body))})")
        if response.status_code >= 400:
            raise HostRefusal(response.status_code, _detail(bytes(body)))
        return bytes(body)

    def _headers(self) -> dict[str, str]:
        own = {
            "ndif-timestamp": repr(time.time()),
            "nnsight-version": version("nnsight"),
            "python-version": sys.version,
            "user-agent": f"patchboard/{version('patchboard')} python/{platform.python_version()}",
        }
        return own | ({"ndif-api-key": self.key} if self.key else {})


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise PassingFailure(f"answers something other than JSON ({_detail(body)})") from error


def _detail(body: bytes) -> str:
    """What a body says, in a few words: FastAPI's {"detail": …}, or its first line."""
    text = body.decode("utf-8", "replace").strip()
    try:
        content = json.loads(text)
        text = str(content.get("detail", content)) if isinstance(content, dict) else str(content)
    except ValueError:
        pass
    return (text.splitlines() or ["nothing"])[0][:200]


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__
