"""Points run as commands of their own, several at a time, each into its folder; finished ones are not run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from patchboard.spec.values import label
from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.parameter import Point
from patchboard.sweeps.search import Search
from patchboard.sweeps.task import task_of

_LABEL = 80
"""Letters of a point's folder that say which it is; a hash behind them makes it unique."""


@dataclass(frozen=True)
class Ran:
    """A point with what became of it. status: of its command; 0 also where it had been finished before."""

    point: Point
    folder: Path
    status: int
    message: str = ""


@dataclass
class Runner:
    """sweep: what to run. folder: the sweep's. jobs: at a time. environment: of the commands. figures: formats that
    each run is to have beside PNG."""

    sweep: SweepFile
    folder: Path
    jobs: int
    environment: Mapping[str, str]
    figures: Sequence[str] = ()
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    _turns: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))
    _stopped: bool = False

    left: tuple[str, ...] = ()
    """Jobs that go on when ``results`` has ended: none, it waits for all."""

    def results(self, search: Search) -> Generator[Ran]:
        """Each point as it ends. The caller tells the search before it takes the next.

        Left by an exception (Ctrl-C, say), it interrupts what runs and waits: what they have done can be resumed.
        """
        waiting: set[Future[Ran]] = set()
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                while True:
                    while len(waiting) < self.jobs and (point := search.ask()) is not None:
                        waiting.add(pool.submit(self._run, point))
                    if not waiting:
                        return
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for each in done:
                        yield each.result()
            except BaseException:
                self._stop()
                raise

    def _run(self, point: Point) -> Ran:
        folder = self.folder / name_of(point, self.sweep)
        with self._turns[folder.name]:  # a search may ask for a point twice
            task = task_of(self.sweep, self.folder, folder.name, point, self.figures)
            if task.is_done:
                return Ran(point, folder, 0)
            task.log.parent.mkdir(parents=True, exist_ok=True)
            status = self._wait(task.command, task.log)
        return Ran(point, folder, status, "" if status == 0 else last_line(task.log))

    def _wait(self, command: Sequence[str], log: Path) -> int:
        with open(log, "wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(self.environment),
                start_new_session=True,  # Ctrl-C reaches this process, which then passes it on once
            )
            self._running.add(process)
            if self._stopped:
                process.send_signal(signal.SIGINT)
            status = process.wait()
            self._running.discard(process)
        return status

    def _stop(self) -> None:
        self._stopped = True
        for process in list(self._running):
            process.send_signal(signal.SIGINT)


def environment_for(jobs: int, wandb: str, group: str) -> dict[str, str]:
    """This process's, with the cores shared out among the jobs, and W&B as asked for.

    wandb: ``off``, or ``auto``, ``online``, ``offline`` to mirror the points too, as one group of that name.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    shared = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"} if jobs > 1 else {}
    return {**shared, "WANDB_RUN_GROUP": group, **os.environ, **wandb_mode(wandb)}


def wandb_mode(wandb: str) -> dict[str, str]:
    """The variable by which a command mirrors its run, or does not."""
    return {} if wandb == "auto" else {"WANDB_MODE": "disabled" if wandb == "off" else wandb}


def name_of(point: Point, sweep: SweepFile) -> str:
    """A folder's name for the point: what varies, for people, and a hash of all, for us."""
    varied = [parameter.name for parameter in sweep.varied]
    text = ",".join(f"{name.rsplit('.', 1)[-1]}={short(point[name])}" for name in varied)
    readable = re.sub(r"[^\w.,=+-]+", "_", text)[:_LABEL]
    digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:8]
    return f"{readable}-{digest}" if readable else digest


def short(value: Any) -> str:
    """A parameter's value for people: as ``label``, but a number to six digits."""
    return f"{value:.6g}" if isinstance(value, float) else label(value)


def last_line(log: Path) -> str:
    """The error that a command ended with, or the last that it said."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors: list[Any] = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("error: ")
