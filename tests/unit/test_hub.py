"""Look-ups on the Hub end: where it answers, refuses, is silent or falls silent, and with or without a cache."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from patchboard import hub
from patchboard.engine.load import load_weights, open_model
from patchboard.errors import ModelError, TaskError
from patchboard.spec.sections import ModelSection
from tests.conftest import ROOT
from tests.hub_server import stand_in
from tests.models import byte_level_tokenizer, random_model

REPO = "someone/tiny"
TINY = ModelSection(name=REPO)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = byte_level_tokenizer()
    random_model("llama", hidden_size=32, intermediate_size=64, vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def silent() -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def closed() -> str:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}"


@pytest.fixture
def at(monkeypatch, tmp_path) -> Callable[[str], None]:
    """at(URL): the Hub is there, with an empty cache at first and short deadlines."""
    from huggingface_hub import close_session, constants

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    close_session()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "ANSWER", 0.5)

    def there(url: str) -> None:
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # made once, with the address of then
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")

    return there


def refusal() -> str:
    with pytest.raises(ModelError) as caught:
        open_model(TINY)
    line = caught.value.one_line()
    assert caught.value.exit_status == 2 and line.startswith("model.name: no configuration could be loaded")
    assert line.endswith("check the network, then the same command")
    return line


def test_nobody_listens(at, capfd):
    url = closed()
    at(url)
    started = time.monotonic()
    line = refusal()
    assert time.monotonic() - started < 5, "27 s where the Hub's client is left to itself"
    assert f"({url} cannot be reached (" in line and "refused" in line and "its cache here lacks it" in line
    assert capfd.readouterr().err == ""


def test_silence_is_waited_for_once(at):
    with silent() as url:
        at(url)
        assert f"({url} did not answer within 0.5 s; its cache here lacks it)" in refusal()
        started = time.monotonic()
        refusal()
        assert time.monotonic() - started < 0.4


def test_the_hub_has_it_then_its_cache_does(folder, at):
    """A silent Hub and a finished cache: the same facts and tokens, and the weights."""
    with stand_in(REPO, folder) as there:
        at(there.url)
        tokenizer, facts = open_model(TINY)
        load_weights(TINY, "cpu", "float32")
        assert (facts.layers, facts.width) == (4, 32) and any("tokenizer.json" in path for path in there.asked)
    with silent() as url:
        at(url)
        again, known = open_model(TINY)
        weights = load_weights(TINY, "cpu", "float32")
    assert known == facts and again("a b c")["input_ids"] == tokenizer("a b c")["input_ids"]
    here = load_weights(ModelSection(name=str(folder)), "cpu", "float32")
    assert all((a == b).all() for a, b in zip(weights.parameters(), here.parameters(), strict=True))


def test_a_hub_that_falls_silent(folder, at, monkeypatch):
    """It answers for the configuration and holds the tokenizer back."""
    monkeypatch.setattr(hub, "STALL", 0.8)
    with stand_in(REPO, folder, silent_for=lambda file: file.startswith("tokenizer")) as there:
        at(there.url)
        with pytest.raises(
            ModelError, match=rf"no tokenizer could be loaded .*\({there.url} fell silent for 0.8 s; its cac"
        ):
            open_model(TINY)


def test_what_the_hub_answers_is_told_as_ever(folder, at):
    with stand_in(REPO, folder) as there:
        at(there.url)
        with pytest.raises(ModelError, match="someone/else is not a local folder and is not a valid model identifier"):
            open_model(ModelSection(name="someone/else"))


def test_a_damaged_cache_is_not_called_a_missing_one(folder, at, tmp_path):
    with stand_in(REPO, folder) as there:
        at(there.url)
        open_model(TINY)
    (config,) = (tmp_path / "cache").glob("models--*/snapshots/*/config.json")
    config.resolve().write_text("{")
    at(closed())
    line = refusal()
    assert "its cache here does not do (" in line and "lacks" not in line


def test_a_data_set_has_the_same_deadline(at):
    from patchboard.tasks.treebank import read_dataset

    with silent() as url:
        at(url)
        with pytest.raises(TaskError, match=f"{url} did not answer within 0.5 s"):
            list(read_dataset("someone/words", None, "train", "tokens", "upos"))


@pytest.mark.slow
@pytest.mark.parametrize("remote", [[], ["--remote"]])
def test_no_network_from_the_command_line(tmp_path, remote):
    """In a process of its own, with the deadlines as they are; the key comes before everything."""
    script = [sys.executable, str(ROOT / "experiments" / "patch_sweep.py"), "--model", REPO, "--wandb", "off"]
    with silent() as url:
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        environment |= {"HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "NDIF_API_KEY": ""}
        environment |= {"NNSIGHT_CONFIG": str(tmp_path / "none.yaml"), "PYTHONPATH": str(ROOT)}
        found = subprocess.run(
            [*script, *remote], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path
        )
    (line,) = found.stderr.splitlines()
    assert found.returncode == 2 and not list(tmp_path.glob("runs/*"))
    assert line.startswith("error: NDIF_API_KEY: is not set" if remote else "error: model.name: no configuration")


def cached_ref(tmp_path: Path, commit: str) -> None:
    refs = tmp_path / "cache" / "models--someone--tiny" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)


def test_a_branch_is_the_commit_that_the_hub_tells(at, folder, tmp_path):
    cached_ref(tmp_path, "f" * 40)
    with stand_in(REPO, folder) as there:
        at(there.url)
        assert hub.commit_of(REPO, "main") == there.commit, "not the cache's word, which is older"
        assert hub.commit_of("someone/unknown", "main") is None
        before = len(there.asked)
        assert hub.commit_of(REPO, "e" * 40) == "e" * 40 and len(there.asked) == before, "a commit asks nobody"


def test_where_the_hub_is_silent_the_cache_has_the_word(at, tmp_path):
    at(closed())
    assert hub.commit_of(REPO, "main") is None
    cached_ref(tmp_path, "f" * 40)
    assert hub.commit_of(REPO, "main") == "f" * 40
