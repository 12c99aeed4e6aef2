"""A loopback NDIF server in a process of its own, the model that it serves, and a client's environment for it."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

REPO = "meta-llama/Llama-3.1-70B"
KEY = "11111111-2222-4333-8444-555555555555"
_STARTS_WITHIN = 90
"""Seconds; it takes 3 on an idle core."""
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


@dataclass(frozen=True)
class Snapshot:
    """A tiny random Llama, as a folder with weights, and as the Hub's cache has REPO without weights."""

    folder: Path
    home: Path
    """For HF_HOME."""
    repo: str = REPO


@pytest.fixture(scope="session", autouse=True)
def as_many_threads_as_the_server() -> Iterator[None]:
    """One: sums over several threads round in another order, and these tests compare to the bit."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def llama_snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Four layers, width 32, over a byte-level vocabulary."""
    from tests.models import byte_level_tokenizer, random_model

    folder, home = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("hf-home")
    tokenizer = byte_level_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": len(tokenizer)}
    random_model("llama", **sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return snapshot_of(folder, home)


def snapshot_of(folder: Path, home: Path) -> Snapshot:
    """A model's folder, and in ``home`` what the Hub's cache holds of it without its weights."""
    sha = "0123456789abcdef0123456789abcdef01234567"
    cached = home / "hub" / f"models--{REPO.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(sha)
    shutil.copytree(folder, cached / "snapshots" / sha, ignore=shutil.ignore_patterns("*.safetensors"))
    return Snapshot(folder, home)


@dataclass
class LoopbackServer:
    """A running server. Its port stays the same over restarts."""

    folder: Path
    options: tuple[str, ...]
    errors: Path
    """Where its standard error goes."""
    port: int = 0
    process: subprocess.Popen[str] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("server.py")), "--model", str(self.folder),
                   "--port", str(self.port), "--with-parent", *self.options]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        with self.errors.open("a") as errors:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=self.folder
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _STARTS_WITHIN)
        line = self.process.stdout.readline() if ready else ""
        assert line, f"the loopback server did not start:\n{self.errors.read_text()}"
        self.port = json.loads(line)["port"]

    def stop(self) -> None:
        """Kill it: nothing listens on the port, no job is remembered."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def fault(self, name: str, times: int = 1, **options: Any) -> None:
        """Arm a fault of faults.py for the next `times` occasions (-1: for all)."""
        self._post("/fault", {"name": name, "times": times, **options})

    def clear(self) -> None:
        """Back to the start: no faults, no log, no jobs."""
        self._post("/clear", {})

    def log(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What it received, in order: dicts with `kind` (request, response, result, status …), `id`, `time` …"""
        with urllib.request.urlopen(f"{self.url}/log", timeout=10) as answer:
            return [entry for entry in json.load(answer) if kind in (None, entry["kind"])]

    def _post(self, path: str, content: dict[str, Any]) -> None:
        request = urllib.request.Request(self.url + path, json.dumps(content).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture(scope="session")
def servers(
    llama_snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., LoopbackServer]]:
    """servers(*options) -> a cleared server with those options of server.py; each kind is started once."""
    running: dict[tuple[str, ...], LoopbackServer] = {}

    def get(*options: str) -> LoopbackServer:
        if options not in running:
            errors = tmp_path_factory.mktemp("server") / "stderr"
            running[options] = LoopbackServer(llama_snapshot.folder, options, errors)
            running[options].start()
        elif (process := running[options].process) is None or process.poll() is not None:
            running[options].start()
        running[options].clear()
        return running[options]

    yield get
    for server in running.values():
        server.stop()


@pytest.fixture
def server(servers: Callable[..., LoopbackServer]) -> LoopbackServer:
    """The plain server: float32, no autocast, any key."""
    return servers()


def environment_for(server: LoopbackServer, snapshot: Snapshot) -> dict[str, str]:
    """A client process's environment: the server as NDIF, the snapshot as the Hub's cache, nothing else reachable."""
    kept = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
    return {
        **kept,
        "HF_HOME": str(snapshot.home),
        "HF_HUB_OFFLINE": "1",
        "NDIF_HOST": server.url,
        "NDIF_API_KEY": KEY,
        "NNSIGHT_CONFIG": str(snapshot.home / "no-nnsight-config.yaml"),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": str(ROOT),
        "TOKENIZERS_PARALLELISM": "false",
    }


@pytest.fixture
def client_env(server: LoopbackServer, llama_snapshot: Snapshot) -> dict[str, str]:
    return environment_for(server, llama_snapshot)


@pytest.fixture(scope="session")
def shell_model(llama_snapshot: Snapshot) -> Any:
    """Stock nnsight's model of REPO: configuration and tokenizer, no weights."""
    from transformers import AutoConfig

    return _wrapped(llama_snapshot.repo, llama_snapshot, config=AutoConfig.from_pretrained(llama_snapshot.folder))


@pytest.fixture(scope="session")
def local_model(llama_snapshot: Snapshot) -> Any:
    """The model that the server serves, in this process."""
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(llama_snapshot.folder).requires_grad_(False)
    return _wrapped(module, llama_snapshot)


def _wrapped(model: Any, snapshot: Snapshot, **settings: Any) -> Any:
    with suppress(TypeError):  # nnsight mounts `save` on object; anyio must come first, or not at all
        import anyio._backends._asyncio  # noqa: F401
    from nnsight import TransformersModel
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(snapshot.folder)
    return TransformersModel(model, tokenizer=tokenizer, task="text-generation", **settings)


@pytest.fixture
def client(shell_model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same, with the Hub's answer to its name at hand."""
    from nnsight.modeling.huggingface import _ID_CACHE

    monkeypatch.setitem(_ID_CACHE, REPO, REPO)
    return shell_model
