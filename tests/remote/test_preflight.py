"""What is wrong before anything is sent: one line each, and nothing is sent or left."""

from __future__ import annotations

from importlib import metadata

import pytest

from tests.conftest import ROOT
from tests.contract.tiny import write
from tests.remote.conftest import KEY
from tests.remote.runs import command, run_remotely, tree_of


def refused(snapshot, server, tmp_path, *arguments, status=2, **changes) -> str:
    """The line of a run that must not begin."""
    before = len(server.log("request"))
    found, out, err = run_remotely(snapshot, server, tmp_path / "run", "--patience", "1", *arguments, **changes)
    lines = err.splitlines()
    assert (found, out) == (status, "") and len(lines) == 1 and lines[0].startswith("error: "), err
    assert len(server.log("request")) == before
    assert not (tmp_path / "run").exists()
    return lines[0]


@pytest.mark.slow
def test_key_is_missing(server, llama_snapshot, client_env, tmp_path):
    import subprocess

    spec = write(tree_of(llama_snapshot), tmp_path / "spec.yaml")
    found = subprocess.run(
        command(spec, tmp_path / "run", "--remote"), env={**client_env, "NDIF_API_KEY": ""},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert found.returncode == 2 and found.stderr.startswith("error: NDIF_API_KEY: is not set")
    assert "get a key" in found.stderr and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_key_is_refused(servers, llama_snapshot, tmp_path):
    """Only at the first job does the host look at it."""
    server = servers("--key", "another-key-than-ours")
    status, _, err = run_remotely(llama_snapshot, server, tmp_path / "run", "--quiet")
    (line,) = err.splitlines()
    assert status == 2 and line.startswith("error: NDIF_API_KEY: ") and server.url in line and KEY not in line


def test_nobody_is_there(server, llama_snapshot, tmp_path):
    line = refused(llama_snapshot, server, tmp_path, "--remote=http://127.0.0.1:9", status=3)
    assert "http://127.0.0.1:9: cannot be reached" in line


def test_silent_host(server, llama_snapshot, tmp_path):
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert "no answer within 0.33 s" in refused(llama_snapshot, server, tmp_path, f"--remote={url}", status=3)


def test_no_url(server, llama_snapshot, tmp_path):
    line = refused(llama_snapshot, server, tmp_path, "--remote=localhost:5001")
    assert "--remote: 'localhost:5001' is no URL" in line


def test_model_is_cold(server, llama_snapshot, tmp_path):
    server.fault("cold", times=-1)
    line = refused(llama_snapshot, server, tmp_path, status=3)
    assert "not loaded (COLD)" in line and "meta-llama/Llama-3.1-8B" in line


def test_model_is_absent(server, llama_snapshot, tmp_path):
    server.fault("absent", times=-1)
    line = refused(llama_snapshot, server, tmp_path)
    assert f"does not serve '{llama_snapshot.repo}'" in line and "served are meta-llama/Llama-3.1-" in line


def test_other_revision(server, llama_snapshot, tmp_path):
    cached = llama_snapshot.home / "hub" / f"models--{llama_snapshot.repo.replace('/', '--')}" / "refs"
    (cached / "v2").write_text((cached / "main").read_text())
    line = refused(llama_snapshot, server, tmp_path, "--revision", "v2")
    assert "model.revision: " in line and "at main, not v2" in line and "use main" in line


def test_other_nnsight(server, llama_snapshot, tmp_path):
    server.fault("old_versions", times=-1)
    line = refused(llama_snapshot, server, tmp_path, status=3)
    assert "runs nnsight 0.5.15" in line and "0.8" in line


@pytest.mark.parametrize("theirs", ["0.7.9", "0.9.0", "0.9", "1.8.1", "0.80.1"])
def test_another_minor_line_is_refused(theirs):
    from patchboard.engine.ndif.host import Host
    from patchboard.engine.ndif.preflight import _check_versions
    from patchboard.errors import RemoteRunError

    with pytest.raises(RemoteRunError) as caught:
        _check_versions(Host("http://host", "", 1), {"nnsight": theirs})
    assert f"runs nnsight {theirs}, here is 0.8." in caught.value.what and f"nnsight=={theirs}" in caught.value.remedy


@pytest.mark.parametrize("theirs, noted", [("0.8.0", True), ("0.8.99", True), ("0.8.2rc1+local", True), ("", True),
                                           (metadata.version("nnsight"), False)])  # fmt: skip
def test_another_patch_of_the_line_is_noted(theirs, noted):
    from patchboard.engine.ndif.host import Host
    from patchboard.engine.ndif.preflight import _check_versions, version_notes

    versions = {"nnsight": theirs, "transformers": metadata.version("transformers")}
    _check_versions(Host("http://host", "", 1), versions)
    assert [theirs in note and "nnsight" in note for note in version_notes(versions)] == [True] * noted


def test_the_line_is_pinned_in_one_place_alone():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (asked,) = [line for line in text.splitlines() if line.strip().startswith('"nnsight')]
    assert '"nnsight>=0.8.1,<0.9"' in asked


def test_configuration_is_not_at_hand(server, llama_snapshot, tmp_path):
    line = refused(llama_snapshot, server, tmp_path, "--model", "openai-community/gpt2")
    assert "no configuration could be loaded" in line and "HF_HUB_OFFLINE is set; its cache here lacks it" in line


def test_what_is_known_at_home_comes_first(server, llama_snapshot, tmp_path, monkeypatch):
    """Key, then host, then the Hub; of the Hub nothing is asked before the host serves the model."""
    from patchboard import hub

    asked: list[str] = []
    monkeypatch.setattr(hub, "silence", lambda repo, *_: asked.append(repo) or "is not to be asked")
    server.fault("absent", times=-1)
    assert "does not serve" in refused(llama_snapshot, server, tmp_path)
    assert "does not serve" in refused(llama_snapshot, server, tmp_path, "--fresh")
    server.clear()
    line = refused(llama_snapshot, server, tmp_path, "--remote=http://127.0.0.1:9", status=3)
    assert "cannot be reached" in line and asked == []
    line = refused(llama_snapshot, server, tmp_path, "--model", "openai-community/gpt2")
    assert "is not to be asked" in line and set(asked) == {"openai-community/gpt2"}


def test_what_a_server_cannot_do(server, llama_snapshot, tmp_path):
    assert "embedded model" in refused(llama_snapshot, server, tmp_path, "--model", "embedded")
    assert "--device" in refused(llama_snapshot, server, tmp_path, "--device", "cpu")


@pytest.mark.parametrize("flag, value", [("--patience", "0"), ("--job-tokens", "-3")])
def test_limits_are_above_nothing(server, llama_snapshot, tmp_path, flag, value):
    assert f"{flag}: " in refused(llama_snapshot, server, tmp_path, flag, value)


def test_docs_tell_what_to_do():
    text = (ROOT / "docs" / "remote.md").read_text(encoding="utf-8")
    for name in ("NDIF_API_KEY", "NDIF_HOST", "ndif start", "--job-tokens", "--patience", "COLD"):
        assert name in text
