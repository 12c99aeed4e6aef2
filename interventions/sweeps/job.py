"""What a job of a launcher does on the machine that it is sent to: the commands of its points, one after the other."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from patchboard.sweeps.task import PointTask

INTERRUPTED = 130
_STOPPED = (INTERRUPTED, 128 + signal.SIGTERM)


class PointsJob:
    """Called, it gives each point's status. submitit pickles it, and calls ``checkpoint`` before a job's time is over
    or when another takes its place: then it is queued again, finished points cost nothing, and the stopped one resumes.
    """

    def __init__(self, tasks: Sequence[PointTask], environment: Mapping[str, str], here: Path):
        """environment: over the machine's own. here: the folder to run in, from which paths are meant."""
        self._tasks, self._environment, self._here = tuple(tasks), dict(environment), here
        self._running: subprocess.Popen[bytes] | None = None

    def __call__(self) -> list[int]:
        statuses: list[int] = []
        for task in self._tasks:
            stopped = bool(statuses) and statuses[-1] in _STOPPED
            statuses.append(INTERRUPTED if stopped else self._run(task))
        return statuses

    def _run(self, task: PointTask) -> int:
        if task.is_done:
            return 0
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with open(task.log, "wb") as out:
            self._running = subprocess.Popen(
                task.command,
                cwd=self._here,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **self._environment},
                start_new_session=True,  # the cluster's signals reach this process, which passes one on
            )
            try:
                status = self._running.wait()
                return status if status >= 0 else 128 - status  # killed by a signal: as a shell tells it
            except BaseException:
                self._interrupt()
                raise
            finally:
                self._running = None

    def _interrupt(self) -> None:
        """The run keeps what it has finished and ends. Also called while ``_run`` waits, from a signal's handler: there
        Popen's own ``wait`` would wait for itself."""
        if self._running is not None and self._running.poll() is None:
            self._running.send_signal(signal.SIGINT)
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._running.pid, os.WEXITED | os.WNOWAIT)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        self._interrupt()
        return DelayedSubmission(PointsJob(self._tasks, self._environment, self._here))
