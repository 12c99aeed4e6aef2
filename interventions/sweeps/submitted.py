"""The jobs of a sweep that are under way, in a file by which a later call finds them."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchboard.errors import RunFolderError
from patchboard.store.folder import atomically
from patchboard.sweeps.launch import jobs_folder

if TYPE_CHECKING:
    from submitit import Job

FILE = "jobs.json"
_ASKED = 10
"""Seconds between two looks at the queue."""


@dataclass(frozen=True)
class Submitted:
    """id: the cluster's. points: names of their run folders, in order."""

    id: str
    cluster: str
    points: tuple[str, ...]


class Ledger:
    """The jobs whose end no call has told yet. Each change is written at once."""

    def __init__(self, folder: Path):
        """Raises RunFolderError where the file cannot be read."""
        self._file = folder / FILE
        try:
            rows = json.loads(self._file.read_text(encoding="utf-8"))["jobs"] if self._file.exists() else []
            self._jobs = {row["id"]: Submitted(row["id"], row["cluster"], tuple(row["points"])) for row in rows}
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"cannot be read ({type(error).__name__})"
            raise RunFolderError(str(self._file), what, "remove it once no job of the sweep runs") from None

    def __iter__(self):
        return iter(tuple(self._jobs.values()))

    def add(self, jobs: Sequence[Submitted]) -> None:
        self._jobs |= {job.id: job for job in jobs}
        self._write()

    def remove(self, job: Submitted) -> None:
        del self._jobs[job.id]
        self._write()

    def _write(self) -> None:
        text = json.dumps({"jobs": [asdict(job) for job in self._jobs.values()]}, indent=1) + "\n"
        atomically(self._file, lambda path: path.write_text(text, encoding="utf-8"))


def found_again(job: Submitted, folder: Path) -> Job[Any]:
    """submitit's job of another process. folder: the sweep's."""
    from submitit.core.plugins import get_executors

    return get_executors()[job.cluster].job_class(folder=jobs_folder(folder), job_id=job.id)


def is_over(job: Job[Any]) -> bool:
    """Whether it has an answer, or will have none."""
    if job.paths.result_pickle.exists():
        return True
    if getattr(job, "_process", ...) is None:  # of this machine, started by another process: submitit does not look
        return not _runs_here(job.job_id)
    return job.done() or (job.state == "UNKNOWN" and job.job_id not in _queued(int(time.monotonic()) // _ASKED))


@lru_cache(maxsize=1)
def _queued(turn: int) -> Container[str]:
    """Ids of the user's jobs that SLURM holds, waiting or running; everything where it cannot be asked. submitit asks
    ``sacct``, which knows nothing where a cluster keeps no accounts. turn: to ask again in the next."""
    asked = ["squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return _Everything()
    return set(done.stdout.split()) if done.returncode == 0 else _Everything()


class _Everything:
    def __contains__(self, job: object) -> bool:
        return True


def _runs_here(process: str) -> bool:
    import psutil

    try:
        return "submitit.local._local" in psutil.Process(int(process)).cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def statuses_of(job: Job[Any]) -> list[int] | None:
    """Each point's status; None where the job ended without a word."""
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return job.result()
    except (FailedJobError, UncompletedJobError):
        return None


def interrupt(job: Job[Any]) -> None:
    """A job of this machine ends: its point's run keeps what is finished. Waits for it."""
    import psutil

    try:
        beside = psutil.Process(int(job.job_id))  # submitit's own, whose child is the job
        for child in beside.children():
            child.send_signal(signal.SIGINT)
        beside.wait()
    except psutil.NoSuchProcess:
        pass


@contextmanager
def said_in(file: Path) -> Iterator[None]:
    """What is said within goes to the file, and what processes say that are started within: of a refusal there is one
    line, without sbatch's own, and submitit's process beside each job of this machine ends with no traceback."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {number: os.dup(number) for number in (1, 2)}
    with open(file, "a", encoding="utf-8") as log:
        try:
            for number in kept:
                os.dup2(log.fileno(), number)
            with redirect_stdout(log), redirect_stderr(log):
                yield
        finally:
            for number, own in kept.items():
                os.dup2(own, number)
                os.close(own)
