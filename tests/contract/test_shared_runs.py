"""Runs that several processes share: the numbers of one process, whatever becomes of the others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest
import torch

from patchboard.execution import crew as crews
from patchboard.execution.claims import FOLDER, Tally, read_tally
from patchboard.execution.crew import Crew
from patchboard.execution.run_packs import PackRunner
from tests.contract.cases import case_tree, write_cases
from tests.contract.test_screened_runs import SECTIONS as SCREENED
from tests.contract.tiny import VECTOR, manifest_of, one_error, run, tiny_tree, write

PATIENCE = 120.0
"""Seconds within which a process is at work."""
TABLES = ("outcomes.parquet", "effects.parquet", "decodability.parquet", "texts.parquet", "guardedness.parquet")
ERASED = {"op": "ablate", "vector": {"subspace": "tasks", "method": "leace", "shots": 1, "prompts": 12}, "layers": [1]}
CLAMP = """
import os
import patchboard as pb

@pb.register.op("few")
class Few:
    '''h + strength * v, for few states at once; more run out of memory, and the process tells that it did.'''
    operand, neutral = "vector", 0.0

    @staticmethod
    def apply(h, operand, strength):
        if len(h) > 4:
            open(os.path.join({folder!r}, str(os.getpid())), "w").close()
            raise MemoryError("out of memory")
        return h + strength * operand
"""
SLOW = """
import time
import patchboard as pb

@pb.register.op("slow", operand="none", neutral=0.0)
def slow(h, operand, strength):
    '''(1 - strength) * h, after a while.'''
    time.sleep(1)
    return h * (1 - strength)
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums are in another order with other numbers of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_page(monkeypatch) -> None:
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)


def everything(model: Path) -> dict[str, Any]:
    """Packs of two groups a task, CD with probes, texts and guardedness."""
    return tiny_tree(
        model,
        prompts={"shots": {"sweep": [0, 1]}, "queries": 3},
        interventions={"added": {"op": "add", "vector": VECTOR, "layers": [1, 2]}, "erased": ERASED},
        decodability={"k": 2, "prompts": 6, "shots": [0, 1], "probes": ["mass_mean"]},
        guardedness={"probes": ["mass_mean"], "k": 3, "prompts": 12},
        generate={"tokens": 4, "prompts": 2, "interventions": ["added"]},
    )


class Waiting:
    """This process computes no pack until the others have done some, then does ``then`` with their crew."""

    def __init__(self, monkeypatch: Any, then: Callable[[Crew], None] = lambda crew: None):
        self.tallies: list[Tally] = []
        self.crew: Crew | None = None
        entered, finished, packs = Crew.__enter__, Crew.finish, PackRunner.run

        def enter(crew: Crew) -> Crew:
            self.crew = crew
            return entered(crew)

        def wait(runner: PackRunner, group: Any) -> None:
            crew, since = self.crew, time.monotonic()
            if crew is not None and crew._workers:
                while crew.done("packs") == 0:
                    assert time.monotonic() - since < PATIENCE
                    time.sleep(0.02)
                then(crew)
                self.crew = None
            packs(runner, group)

        def finish(crew: Crew) -> list[Tally]:
            self.tallies = finished(crew)
            return self.tallies

        monkeypatch.setattr(Crew, "__enter__", enter)
        monkeypatch.setattr(Crew, "finish", finish)
        monkeypatch.setattr(PackRunner, "run", wait)


def assert_same(one: Path, other: Path, tables: tuple[str, ...] = TABLES) -> None:
    for name in tables:
        assert pl.read_parquet(one / name).equals(pl.read_parquet(other / name)), name


@pytest.fixture(scope="module")
def alone(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("patchboard.execution.run._report", lambda folder: None)
        torch.set_num_threads(1)
        assert run(everything(llama_folder), out, "--devices", "1") == 0
    return out


def test_two_processes_give_the_numbers_of_one(llama_folder, alone, tmp_path, monkeypatch):
    waiting, told = Waiting(monkeypatch), []
    monkeypatch.setattr("patchboard.store.progress._write", lambda file, one: told.append(one))
    assert run(everything(llama_folder), tmp_path / "run", "--devices", "2") == 0
    assert_same(alone, tmp_path / "run")
    (tally,) = waiting.tallies
    (entry,), (lone,) = manifest_of(tmp_path / "run")["models"], manifest_of(alone)["models"]
    assert tally.token_layers > 0 and entry["token_layers"] == lone["token_layers"]
    assert (lone["devices"], entry["devices"]) == (["cpu"], ["cpu", "cpu"])
    seconds = manifest_of(tmp_path / "run")["processor_seconds"]
    assert tally.processor_seconds["load"] <= seconds["load"] and tally.processor_seconds["total"] <= seconds["total"]
    packs = [one.done for one in told if one.phase == "packs"]
    assert packs[0] > 1 and packs == sorted(packs), "the other's packs are counted"
    assert not (tmp_path / "run" / FOLDER).exists()


@pytest.mark.slow
def test_one_that_is_killed_is_told_and_the_run_resumes_with_another_number(
    llama_folder, alone, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        Waiting(patch, then=lambda crew: crew._workers[0].process.kill())
        assert run(everything(llama_folder), tmp_path / "run", "--devices", "2") == 1
    line = one_error(capsys)
    assert line.startswith("error: --devices: the process on cpu (2 of 2) was killed, as the system does where memory")
    assert "same command" in line and list((tmp_path / "run" / "parts").glob("*.parquet"))
    assert run(everything(llama_folder), tmp_path / "run", "--devices", "1") == 0
    assert_same(alone, tmp_path / "run")


@pytest.mark.slow
def test_what_goes_wrong_in_another_process_is_this_ones_error(llama_folder, tmp_path, monkeypatch, capsys):
    shutil.copytree(llama_folder, tmp_path / "model")
    entered = Crew.__enter__

    def without_weights(crew: Crew) -> Crew:
        (tmp_path / "model" / "model.safetensors").unlink(missing_ok=True)
        return entered(crew)

    def until_it_tells(crew: Crew, way: str) -> None:
        crew._workers[0].process.wait(PATIENCE)
        crew.done("")

    monkeypatch.setattr(Crew, "__enter__", without_weights)
    monkeypatch.setattr(Crew, "begin", until_it_tells)
    assert run(tiny_tree(tmp_path / "model"), tmp_path / "run", "--devices", "2") == 2
    assert one_error(capsys).startswith("error: model.name: ")


@pytest.mark.slow
def test_a_traceback_of_another_process_is_its_last_line(llama_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Crew, "_job", lambda crew: "no job")
    monkeypatch.setattr(Crew, "begin", lambda crew, way: crew.until(lambda: False))
    assert run(tiny_tree(llama_folder), tmp_path / "run", "--devices", "2") == 1
    assert "(2 of 2) ended with: AttributeError: 'str' object has no attribute" in one_error(capsys)


def test_one_that_has_taken_nothing_is_not_waited_for(llama_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(crews, "pickle", None)
    monkeypatch.setattr(crews, "atomically", lambda file, write: os.mkfifo(file))  # a job that never comes
    assert run(tiny_tree(llama_folder), tmp_path / "run", "--devices", "3") == 0
    (entry,) = manifest_of(tmp_path / "run")["models"]
    assert entry["devices"] == ["cpu"] * 3


@pytest.mark.slow
def test_each_process_halves_what_does_not_fit_and_has_the_plug_ins(llama_folder, tmp_path, monkeypatch):
    shared = tmp_path / "out of memory"
    shared.mkdir()
    (tmp_path / "few.py").write_text(CLAMP.format(folder=str(shared)))
    tree = tiny_tree(
        llama_folder,
        plugins=[str(tmp_path / "few.py")],
        prompts={"shots": 1, "queries": 12},
        interventions={"p": {"op": "few", "vector": VECTOR, "layers": [1, 2, 3]}},
        decodability=None,
    )
    rows = ("--engine", "rows")  # no sample, which is not halved
    assert run(tree, tmp_path / "alone", *rows) == 0
    for file in shared.iterdir():
        file.unlink()
    Waiting(monkeypatch)
    assert run(tree, tmp_path / "both", *rows, "--devices", "2") == 0
    assert len(list(shared.iterdir())) == 2, "both ran out of memory"
    tables = [pl.read_parquet(tmp_path / name / "outcomes.parquet") for name in ("alone", "both")]
    for column in ("clean", "patched"):
        assert (tables[0][column] - tables[1][column]).abs().max() < 1e-5
    halved = [manifest_of(tmp_path / name)["models"][0]["budget"]["halved"] for name in ("alone", "both")]
    assert halved[0] == halved[1] > 0


@pytest.mark.slow
def test_screens_and_several_models_afresh(llama_folder, gpt2_folder, tmp_path, monkeypatch):
    cases = write_cases(tmp_path / "cases.jsonl")
    names = {"sweep": [str(llama_folder), str(gpt2_folder)]}
    sections = {"interventions": SCREENED, "screen": {"keep": 6, "sample": 5}}
    tree = tiny_tree(llama_folder, **case_tree(cases, metrics=["accuracy", "logit_difference", "logprob"], **sections))
    tree["model"] = {"name": names}
    assert run(tree, tmp_path / "alone") == 0
    waiting = Waiting(monkeypatch)
    for _ in range(2):
        assert run(tree, tmp_path / "both", "--devices", "2", "--fresh") == 0
    assert len(waiting.tallies) == 1
    assert_same(tmp_path / "alone", tmp_path / "both", ("outcomes.parquet", "effects.parquet", "screen.parquet"))


def begun(command: list[str], out: Path) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """A run of its own process, and those that it has started, one of which has computed something."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    since = time.monotonic()
    while read_tally(out / FOLDER, 1) is None:
        assert process.poll() is None and time.monotonic() - since < PATIENCE
        time.sleep(0.02)
    return process, psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_no_process_outlives_the_run(sent, status, llama_folder, tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    sections = {"s": {"op": "slow", "layers": [0, 3]}}
    many = {"shots": {"sweep": [0, 1, 2, 3, 4, 5]}, "queries": 3}
    tree = tiny_tree(llama_folder, prompts=many, decodability=None, interventions=sections, controls=[])
    tree["plugins"] = [str(tmp_path / "slow.py")]
    spec = write(tree, tmp_path / "spec.yaml")
    command = [sys.executable, "-m", "patchboard", "run", spec, "--out", str(tmp_path / "run"), "--devices", "2"]
    process, others = begun([*command, "--quiet"], tmp_path / "run")
    assert others
    process.send_signal(sent)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == status
    assert status != 130 or told == "interrupted: finished parts are kept, the same command resumes\n"
    _, alive = psutil.wait_procs(others, timeout=8)
    assert not alive
    assert list((tmp_path / "run" / "parts").glob("*.parquet"))
