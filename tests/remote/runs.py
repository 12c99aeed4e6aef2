"""Remote runs in this process and in others, against the loopback server, and what they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from patchboard.engine import memory
from patchboard.plan.packs import Budget
from tests.conftest import ROOT
from tests.contract.tiny import tiny_tree, write
from tests.remote.conftest import LoopbackServer, Snapshot, environment_for

TABLES = (
    "outcomes.parquet",
    "effects.parquet",
    "curves.parquet",
    "decodability.parquet",
    "top_tokens.parquet",
    "summary.json",
)
SCRIPT = ROOT / "experiments" / "patch_sweep.py"


def tree_of(snapshot: Snapshot, **changes: Any) -> dict[str, Any]:
    """Every kind of operand, ops on single heads and neurons, one with other prompts' states, over the served model;
    top tokens kept."""
    vector = {"mean": "same_task", "shots": 1, "prompts": 3}
    subspace = {"subspace": "tasks", "rank": 2, "shots": 1, "prompts": 3}
    erased = {**subspace, "method": "leace"}
    function = {"function_vector": "same_task", "heads": [[3, 1], [0, 2], [3, 0]], "shots": 1, "prompts": 3}
    sections = {
        "p": {"op": "patch", "vector": vector, "layers": "all"},
        "a": {"op": "ablate", "vector": subspace, "layers": [1, 3]},
        "e": {"op": "ablate", "vector": erased, "layers": [1]},
        "f": {"op": "add", "vector": function, "layers": [2]},
        "h": {"op": "zero", "site": "head", "layers": [0, 2]},
        "k": {"op": "patch", "vector": vector, "site": "k", "heads": [1], "layers": [1]},
        "n": {"op": "patch", "vector": vector, "site": "mlp_act", "neurons": [3, 17], "layers": [2]},
        "c": {
            "op": "knock_out",
            "edges": {"from": "query", "to": "last"},
            "heads": [0, 2],
            "layers": {"together": [1, 2]},
        },
        "m": {"op": "scale", "site": "mlp_pre", "strength": 2, "layers": [1]},
        "r": {"op": "resample", "source": "other_task", "layers": [2], "position": "query"},
    }
    own = {"model": {"name": snapshot.repo}, "interventions": sections, "outcomes": {"top_tokens": 3}}
    return {**tiny_tree(Path("unused")), **own, **changes}


def command(spec: str, out: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(SCRIPT), spec, "--out", str(out), "--wandb", "off", *arguments]


def start(snapshot: Snapshot, server: LoopbackServer, spec: str, out: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(spec, out, "--remote", *arguments), env=environment_for(server, snapshot), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=out.parent,
    )  # fmt: skip


def done(process: subprocess.Popen[str], seconds: float = 90) -> tuple[int, str, str]:
    """(status, standard output, standard error); a process that hangs fails the test."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


@contextmanager
def as_client(snapshot: Snapshot, server: LoopbackServer) -> Iterator[None]:
    """This process as one whose Hub cache is the snapshot's and whose NDIF is the server."""
    from huggingface_hub import constants

    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_for(server, snapshot).items():
            patch.setenv(name, value)
        patch.setattr(constants, "HF_HUB_CACHE", str(snapshot.home / "hub"))  # read from the environment once, early
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        yield


def run_remotely(
    snapshot: Snapshot, server: LoopbackServer, out: Path, *arguments: str, **changes: Any
) -> tuple[int, str, str]:
    """(status, standard output, standard error) of the command line, in this process."""
    from patchboard.commands.main import main

    spec = write(tree_of(snapshot, **changes), out.parent / "spec-of-the-run.yaml")
    told, complained = StringIO(), StringIO()
    given = ["run", spec, "--out", str(out), "--wandb", "off", "--remote", *arguments]
    with as_client(snapshot, server), redirect_stdout(told), redirect_stderr(complained):
        status = main(given)
    return status, told.getvalue(), complained.getvalue()


@contextmanager
def packed_as_there() -> Iterator[None]:
    """Runs of this process in packs and with masks as a host has them, so that sums are in one order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "default_budget", lambda facts, on_cpu: Budget())
        yield


def run_here(snapshot: Snapshot, out: Path, *arguments: str, as_there: bool = True, **changes: Any) -> Path:
    """The same spec on the served weights, without a server. as_there: as ``packed_as_there`` says."""
    from patchboard.commands.main import main

    spec = write(tree_of(snapshot, **changes), out.parent / f"spec-of-{out.name}.yaml")
    given = ["run", spec, "--model", str(snapshot.folder), "--out", str(out), "--quiet", "--wandb", "off"]
    with packed_as_there() if as_there else nullcontext():
        assert main([*given, *arguments]) == 0
    return out


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(folder / name, glob=False)


def assert_close_tables(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Every score but for rounding, the rows to the bit."""
    a, b = (table(folder, "outcomes.parquet") for folder in (one, other))
    keys = [name for name, kind in a.schema.items() if not kind.is_float()]
    assert a.select(keys).equals(b.select(keys), null_equal=True)
    for name in a.columns:
        if name not in keys:
            np.testing.assert_allclose(a[name].to_numpy(), b[name].to_numpy(), rtol=tolerance, atol=tolerance)


def assert_same_tables(one: Path, other: Path) -> None:
    """Every value, to the bit."""
    for name in TABLES[:-1]:
        assert table(one, name).equals(table(other, name), null_equal=True), name


def assert_same_bytes(one: Path, other: Path) -> None:
    for name in TABLES:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


def wait_for(server: LoopbackServer, kind: str, count: int, process: subprocess.Popen[str]) -> None:
    """Until the server has seen so many of a kind."""
    end = time.monotonic() + 60
    while len(server.log(kind)) < count:
        assert process.poll() is None, f"ended before {count} x {kind}: {done(process)}"
        assert time.monotonic() < end, f"no {count} x {kind} within a minute"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str], sign: int = signal.SIGKILL) -> tuple[int, str, str]:
    os.kill(process.pid, sign)
    return done(process)
