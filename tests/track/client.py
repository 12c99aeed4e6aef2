"""The command line and the real ``wandb`` client as their users start them, against the stand-in or nothing at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.conftest import ROOT
from tests.track.server import KEY

LIGHT: dict[str, Any] = {
    "name": "light",
    "tasks": {"family": "bitwise", "only": ["AND", "OR", "XOR"]},
    "prompts": {"shots": 2, "queries": 8},
    "interventions": {
        "positive": {"op": "patch", "vector": {"mean": "same_task", "shots": 2, "prompts": 8}, "layers": [1, 3, 4]}
    },
    "controls": ["random"],
    "metrics": ["accuracy", "logprob"],
    "decodability": {"k": 3, "prompts": 8, "shots": [0, 2]},
    "statistics": {"bootstrap": 100},
}
"""A spec over the embedded model that runs in a few seconds, most of which imports take."""


def light_spec(folder: Path, **changes: Any) -> Path:
    path = folder / "light.yaml"
    YAML(typ="safe").dump({**LIGHT, **changes}, path)
    return path


def environment(home: Path, url: str = "", key: str = "", **more: str) -> dict[str, str]:
    """This process's, without anything that a developer has set up for W&B."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_") and name != "NETRC"}
    own = {"HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}
    own["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"  # the agent's `python`
    if url:
        own["WANDB_BASE_URL"] = url
    if key:
        own["WANDB_API_KEY"] = key
    return kept | own


def online(home: Path, url: str, **more: str) -> dict[str, str]:
    return environment(home, url, KEY, **more)


def start(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """``patchboard …`` with nothing on its standard input."""
    command = [sys.executable, "-m", "patchboard", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)


def patchboard(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    process = start(*arguments, cwd=cwd, env=env)
    out, err = process.communicate(timeout=180)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def wandb(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The ``wandb`` command, its two streams in one."""
    command = [sys.executable, "-m", "wandb", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=300,
    )  # fmt: skip


@contextmanager
def silent_host() -> Iterator[str]:
    """The URL of a host that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_port() -> str:
    """The URL of a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
