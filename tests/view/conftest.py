"""A folder of runs of every kind, made without a model, and its server."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from patchboard.report.page import render
from patchboard.report.run_files import read_run
from patchboard.store.progress import told_in
from patchboard.view.server import ViewServer
from tests.unit import synthetic_run


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Path:
    """A finished run; small, with its report."""
    table = synthetic_run.outcomes(queries=8, layers=5, draws=1)
    folder = synthetic_run.write_run_folder(tmp_path_factory.mktemp("planted") / "run", table, None)
    (folder / "report.html").write_text(render(read_run(folder), []))
    return folder


Finished = Callable[..., Path]


@pytest.fixture
def finished(planted) -> Finished:
    """(folder, manifest's entries) -> a finished run there."""

    def made(folder: Path, **changes: Any) -> Path:
        shutil.copytree(planted, folder)
        change_json(folder / "manifest.json", **changes)
        return folder

    return made


@pytest.fixture
def unfinished(planted) -> Finished:
    """(folder, error) -> a run that was left at 34 of 100 packs by the error."""

    def made(folder: Path, error: BaseException | None = None) -> Path:
        folder.mkdir(parents=True)
        shutil.copy(planted / "spec.yaml", folder)
        begun = {"digest": "e" * 64, "version": 1, "status": "running"}
        (folder / "manifest.json").write_text(json.dumps(begun))
        if error is not None:
            with suppress(type(error)), told_in(folder) as tick:
                tick("packs", 34, 100)
                raise error
        return folder

    return made


def change_json(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@dataclass
class Served:
    """A server of a folder. Paths are behind the token, unless they begin with a slash."""

    server: ViewServer

    def ask(self, path: str = "", method: str = "GET", headers: dict[str, str] | None = None) -> HTTPResponse:
        """The response, read whole, its bytes as ``body``."""
        at = urlsplit(self.server.address)
        assert at.hostname and at.port
        connection = HTTPConnection(at.hostname, at.port, timeout=30)
        connection.putrequest(method, path if path.startswith("/") else at.path + path, skip_host=headers is not None)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response

    def rows(self) -> dict[str, dict[str, Any]]:
        """By the folder."""
        return {row["folder"]: row for row in json.loads(self.ask("rows.json").body)}  # type: ignore[attr-defined]


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    """The server of ``tmp_path / "runs"``."""
    (tmp_path / "runs").mkdir()
    with ViewServer(tmp_path / "runs") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Served(server)
        server.shutdown()
        thread.join()
