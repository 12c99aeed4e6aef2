"""The processes that compute one model's run: this one, and one on each further device."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO

import psutil
import torch

from patchboard import errors
from patchboard.engine.trust import code_is_trusted
from patchboard.errors import EngineError
from patchboard.execution.claims import FOLDER, Claims, Tally, everything, read_tally
from patchboard.execution.job_of_worker import Job, plugins_now
from patchboard.execution.model_run import ModelRun
from patchboard.execution.placement import Placement
from patchboard.plan.packs import Budget
from patchboard.store.folder import atomically

_PAUSE = 0.05
"""Seconds between two looks at what others have done."""
_QUIET = {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
RESUMES = "the same command goes on from the parts that are there"


@dataclass(frozen=True)
class _Worker:
    number: int
    device: str
    process: subprocess.Popen[bytes]
    log: BinaryIO


class Crew:
    """Starts the others as soon as it is entered, and ends them when it is left. Alone it does everything itself."""

    def __init__(self, run: ModelRun, placement: Placement, budget: Budget):
        self._run, self._placement, self._budget = run, placement, budget
        self._path = run.folder.path / FOLDER
        self._workers: list[_Worker] = []
        self._threads = torch.get_num_threads()
        self._share = max(1, self._threads // (1 + len(placement.others)))
        self.take: Callable[[str], bool] = everything
        """Whether a piece of work is this process's to do. name: of its part."""

    def __enter__(self) -> Crew:
        if self._placement.others:
            shutil.rmtree(self._path, ignore_errors=True)  # of a run that was killed
            self.take = Claims(self._path).take
            job = self._job()
            atomically(self._path / "job.pickle", lambda path: path.write_bytes(pickle.dumps(job)))
            self._workers += [self._started(n, device) for n, device in enumerate(self._placement.others, 1)]
            self._run.progress.others = self.done
        return self

    def begin(self, way: str) -> None:
        """The vectors lie in the folder: all compute cells from here on. way: as ``packs_of`` takes an engine."""
        for worker in self._workers:
            assert worker.process.stdin is not None
            with suppress(BrokenPipeError):  # it has ended, which the next look tells
                worker.process.stdin.write(json.dumps(way).encode() + b"\n")
                worker.process.stdin.flush()
        if self._workers:
            torch.set_num_threads(self._share)

    def done(self, phase: str) -> int:
        """Steps of a phase that the others have done. Raises what one of them ended with."""
        for worker in self._workers:
            self._check(worker)
        tallies = (read_tally(self._path, worker.number) for worker in self._workers)
        return sum(tally.done.get(phase, 0) for tally in tallies if tally)

    def until(self, condition: Callable[[], bool], step: Callable[[int], None] = lambda count: None) -> None:
        """Wait for the others. Raises what one of them ended with. step: as a phase's counter."""
        while not condition():
            step(0)
            self.done("")
            time.sleep(_PAUSE)

    def finish(self) -> list[Tally]:
        """What the others have computed, once all parts are there. One that has taken nothing until now is let go."""
        tallies = []
        for worker in self._workers:
            while (tally := read_tally(self._path, worker.number)) is not None and not tally.finished:
                self._check(worker)
                time.sleep(_PAUSE)
            self._check(worker)
            tallies.append(tally or _begun(worker.process.pid))
        return tallies

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            assert worker.process.stdin is not None
            with suppress(BrokenPipeError):
                worker.process.stdin.close()
            worker.log.close()
        if self._workers:
            self._run.progress.others = lambda phase: 0
            torch.set_num_threads(self._threads)
            shutil.rmtree(self._path, ignore_errors=True)
            self._workers.clear()

    def _job(self) -> Job:
        run = self._run
        return Job(
            run.plan, run.name, run.prefix, run.folder.digest, run.bootstrap, self._budget, self._share,
            code_is_trusted(), plugins_now(),
        )  # fmt: skip

    def _started(self, number: int, device: str) -> _Worker:
        log = open(self._path / f"log-{number}.txt", "w+b")
        # -P, and this process's path as it is: a user's random.py in the working folder is not to be the library's
        command = [sys.executable, "-P", "-m", "patchboard.execution.worker", str(self._path), str(number), device]
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)
        env = {**os.environ, **_QUIET, "PYTHONPATH": path}
        env |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(self._share))
        # a session of its own: Ctrl-C is for this process, which then ends the others
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env, start_new_session=True
        )
        return _Worker(number, device, process, log)

    def _check(self, worker: _Worker) -> None:
        """Raises what the worker ended with, if it has ended badly."""
        tally = read_tally(self._path, worker.number)
        if tally and tally.error:
            kind, *told = tally.error
            raise getattr(errors, kind)(*told)
        if worker.process.poll():
            which = f"the process on {worker.device} ({worker.number + 1} of {len(self._workers) + 1})"
            raise EngineError("--devices", f"{which} {self._end(worker)}", RESUMES)

    def _end(self, worker: _Worker) -> str:
        status: Any = worker.process.returncode
        if status == -signal.SIGKILL:
            return "was killed, as the system does where memory runs out"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        worker.log.seek(0)
        lines = worker.log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no word of why")
        return f"ended with: {last}"


def _begun(process: int) -> Tally:
    """Of one that has done no more than load."""
    with suppress(psutil.Error):
        times = psutil.Process(process).cpu_times()
        return Tally(processor_seconds=dict.fromkeys(("load", "total"), times.user + times.system))
    return Tally()
