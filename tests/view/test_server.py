"""`patchboard view` gives a folder's runs to who has the token, on this machine, to read, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from patchboard.commands.main import main
from patchboard.report.page import write_comparison
from tests.contract.tiny import one_error

SECRET = "not for you"
DATA = '<script type="text/plain" class="run">'


def without_data(page: str) -> str:
    return re.sub(rf"{DATA}[^<]*", DATA, page)


def test_without_the_token_nothing_is_given(served, finished, tmp_path):
    finished(tmp_path / "runs" / "a")
    token = served.server.token
    assert len(token) >= 32 and served.server.address.startswith("http://127.0.0.1:")
    asked = ["/", "/rows.json", "/runs/a/report.html", f"/{token[:-1]}/", f"/{token}x/", "//", f"/?{token}", "/%ff/"]
    for path in asked:
        answer = served.ask(path)
        assert answer.status == 403 and b"token" in answer.body and token.encode() not in answer.body, path
    assert served.ask().status == 200 and served.ask("runs/a/report.html").status == 200


@pytest.mark.parametrize("path", ["", "rows.json", "runs/a/report.html", "runs/a/curves.parquet", "nothing"])
def test_every_answer_keeps_the_token_and_the_page_to_themselves(served, finished, tmp_path, path):
    finished(tmp_path / "runs" / "a")
    answer = served.ask(path)
    assert answer.headers["Referrer-Policy"] == "no-referrer" and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store" and "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "http" not in policy
    assert ("sandbox" in policy) == bool(path)  # a run's page may come from anywhere, and has no part in ours
    head = served.ask(path, "HEAD")
    assert (head.status, head.body) == (answer.status, b"") and head.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_is_read_only(served, finished, tmp_path, method):
    finished(tmp_path / "runs" / "a")
    answer = served.ask("runs/a/report.html", method)
    assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD"
    assert (tmp_path / "runs" / "a" / "report.html").exists()


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:1", 200), ("localhost:9000", 200), ("LOCALHOST", 200), ("[::1]:80", 200), ("", 403),
     ("evil.example", 403), ("[", 403),
     ("127.0.0.1.evil.example", 403), ("localhost.evil.example:80", 403), ("localhost@evil.example", 403)],
)  # fmt: skip
def test_another_name_is_refused(served, host, status):
    """A page elsewhere may have its own name lead to 127.0.0.1, and would then read what it asks for."""
    assert served.ask(headers={"Host": host}).status == status


def test_no_name_at_all_is_refused(served):
    assert served.ask(headers={}).status == 403


def test_files_are_given_as_they_are(served, finished, tmp_path):
    folder = finished(tmp_path / "runs" / "a")
    kinds = {
        "report.html": "text/html; charset=utf-8", "summary.json": "application/json",
        "spec.yaml": "text/yaml; charset=utf-8", "effects.parquet": "application/vnd.apache.parquet",
    }  # fmt: skip
    for name, kind in kinds.items():
        answer = served.ask(f"runs/a/{name}")
        assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
        assert answer.body == (folder / name).read_bytes()
    assert {file["name"] for file in served.rows()["a"]["files"]} >= kinds.keys()


def test_nothing_but_runs_is_given(served, finished, tmp_path):
    """Not what lies beside a run, above the folder, behind a link, or hidden."""
    runs = tmp_path / "runs"
    folder = finished(runs / "a")
    others = [
        tmp_path / "secret.json", runs / "secret.json", runs / "b" / "secret.json", folder / "other.html",
        folder / ".env", folder / "notes.txt", folder / ".hidden.json", folder / "parts" / "p.parquet",
        folder / "wandb" / "mirror.json",
    ]  # fmt: skip
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_text(SECRET)
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    (folder / "inside.json").symlink_to(folder / "summary.json")
    (runs / "linked").symlink_to(tmp_path)
    paths = [
        "../secret.json", "..", "runs/../secret.json", "runs/a/../../../secret.json", "%2e%2e/secret.json",
        "runs/a/%2e%2e%2f%2e%2e%2fsecret.json", "runs/a/..%5c..%5csecret.json", "runs/secret.json", "secret.json",
        "runs/b/secret.json", "runs/a/link.json", "runs/a/inside.json", "runs/linked/secret.json", "runs/a/other.html",
        "runs/a/.env", "runs/a/notes.txt", "runs/a/.hidden.json", "runs/a/parts/p.parquet", "runs/a/wandb/mirror.json",
        "runs/a/", "runs/a", "runs", "runs//a/summary.json", "/etc/passwd", f"{tmp_path}/secret.json",
        "runs/a/summary.json%00", "runs/a/summary.json/", "./runs/a/summary.json",
    ]  # fmt: skip
    for path in paths:
        answer = served.ask(path)
        assert answer.status in (403, 404) and SECRET.encode() not in answer.body, path
    assert not {"link.json", "inside.json"} & {file["name"] for file in served.rows()["a"]["files"]}
    assert "a link" in served.rows()["linked"]["told"] and served.rows()["b"]["told"] == "holds no run"


def test_a_folder_that_becomes_a_link_is_not_followed(served, finished, tmp_path):
    """Between the look at the folder and the file's opening."""
    folder = finished(tmp_path / "runs" / "a")
    shown = served.server.site.look()
    elsewhere = finished(tmp_path / "elsewhere")
    (elsewhere / "summary.json").write_text(SECRET)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(elsewhere)
    served.server.site.look = lambda: shown
    assert served.ask("runs/a/summary.json").status == 404


def test_comparing_is_what_report_writes(served, finished, tmp_path):
    one, two = (finished(tmp_path / "runs" / name, digest=name * 64) for name in "ab")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*")}
    answer = served.ask("compare?run=runs/b&run=runs/a")
    assert answer.status == 200
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*")}
    page = write_comparison(two, [one]).read_text()
    assert without_data(answer.body.decode()) == without_data(page) and page.count(DATA) == 2
    for asked in ("compare", "compare?run=runs/a", "compare?run=runs/a&run=runs/c", "compare?run=../a&run=runs/b"):
        assert served.ask(asked).status == 404
    (two / "curves.parquet").write_bytes(b"cut")
    answer = served.ask("compare?run=runs/b&run=runs/a")
    assert (
        answer.status == 409 and b"curves.parquet: cannot be read" in answer.body and len(answer.body.splitlines()) == 1
    )


def test_the_command_prints_its_address_and_ends_on_ctrl_c(finished, tmp_path):
    finished(tmp_path / "runs" / "a")
    code = "import sys; from patchboard.commands.main import main; sys.exit(main(['view']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/[\w-]{32}/", address)
    assert found
    assert socket.create_connection(("127.0.0.1", int(found[1])), timeout=30)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "stopped\n")


def test_what_cannot_be_served_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["view"]) == 2
    assert one_error(capsys).startswith("error: runs: is no folder; ")
    Path("file").write_text("")
    assert main(["view", "file"]) == 2 and "is no folder" in one_error(capsys)
    os.mkdir("runs")
    for port in ("-1", "65536", "x", "٣"):
        assert main(["view", f"--port={port}"]) == 2 and "from 0 to 65535" in one_error(capsys)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["view", "--port", str(taken.getsockname()[1])]) == 2
    assert "error: --port: port" in one_error(capsys)
