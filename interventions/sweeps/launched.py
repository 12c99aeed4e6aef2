"""Points run as jobs that submitit hands to a cluster, whose scheduler does the rest."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from patchboard.errors import SpecError
from patchboard.store.folder import read_manifest
from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.job import PointsJob
from patchboard.sweeps.launch import OPTIONS, Launch, jobs_folder
from patchboard.sweeps.parameter import Point
from patchboard.sweeps.runner import Ran, last_line, name_of
from patchboard.sweeps.search import Search
from patchboard.sweeps.submitted import Ledger, Submitted, found_again, interrupt, is_over, said_in, statuses_of
from patchboard.sweeps.task import PointTask, log_of, task_of

if TYPE_CHECKING:
    from submitit import Job

_PAUSE = {"local": 0.1, "slurm": 1.0}
"""Seconds between two looks at the jobs' files. How often SLURM itself is asked submitit decides."""


@dataclass
class _Waited:
    """A job with those of its points that the search has asked for."""

    submitted: Submitted
    job: Job[Any]
    points: dict[str, Point] = field(default_factory=dict)


@dataclass
class Launched:
    """As ``Runner``. jobs: at a time; None: as many as SLURM gives, or one of this machine's. note: told a line."""

    sweep: SweepFile
    folder: Path
    launch: Launch
    jobs: int | None
    environment: Mapping[str, str]
    note: Callable[[str], None]
    figures: Sequence[str] = ()
    waited: dict[str, _Waited] = field(default_factory=dict)
    """By id: what has been asked for and is not over."""

    def results(self, search: Search) -> Generator[Ran]:
        """Each point as it ends. With ``detach`` those only that are over by now.

        Left by an exception (Ctrl-C, say), it ends jobs of this machine, and leaves those of a cluster, telling so.
        """
        self._ledger, queue = Ledger(self.folder), dict[str, Point]()
        try:
            while True:
                yield from self._asked(search, queue)
                self._submit(queue)
                if not self.waited:
                    return
                over = self._over()
                for each, ended in over:
                    del self.waited[each.submitted.id]
                    self._ledger.remove(each.submitted)
                    yield from ended
                if not over and self.launch.detach:
                    return
                if not over:
                    time.sleep(_PAUSE[self.launch.cluster])
        except BaseException:
            self._leave()
            raise

    def _over(self) -> list[tuple[_Waited, list[Ran]]]:
        """Jobs that are over, with their points."""
        with said_in(self.folder / "jobs" / "submitit.log") if self.launch.cluster == "slurm" else nullcontext():
            return [(each, self._ended(each)) for each in self.waited.values() if is_over(each.job)]

    @property
    def left(self) -> tuple[str, ...]:
        """Jobs that go on when ``results`` has ended, with ``detach``."""
        return tuple(self.waited)

    @property
    def _most(self) -> float:
        """Jobs at a time. SLURM is given all, and keeps to a number itself, but where each asks what others found."""
        endless = self.launch.cluster == "slurm" and self.sweep.method != "bayes"
        return math.inf if endless or self.launch.detach else self.jobs or 1

    def _asked(self, search: Search, queue: dict[str, Point]) -> Generator[Ran]:
        """Puts into the queue what the search asks for and is not under way; gives the points that are finished."""
        known = {name: submitted for submitted in self._ledger for name in submitted.points}
        most = self._most * self.launch.points_per_job if self.sweep.method == "bayes" else math.inf
        while len(queue) + sum(len(each.points) for each in self.waited.values()) < most:
            point = search.ask()
            if point is None:
                return
            name = name_of(point, self.sweep)
            if name in known:
                self._wait_for(known[name]).points[name] = point
            elif self._task(name, point).is_done:
                yield Ran(point, self.folder / name, 0)
            else:
                queue[name] = point

    def _wait_for(self, submitted: Submitted, job: Job[Any] | None = None) -> _Waited:
        if submitted.id not in self.waited:
            self.waited[submitted.id] = _Waited(submitted, job or found_again(submitted, self.folder))
        return self.waited[submitted.id]

    def _submit(self, queue: dict[str, Point]) -> None:
        """As many of the queue as may run now, as one array where the cluster has these."""
        names, size = list(queue), self.launch.points_per_job
        shares = [names[start : start + size] for start in range(0, len(names), size)]
        several = [
            {name: queue.pop(name) for name in share}
            for place, share in enumerate(shares)
            if place < self._most - len(self.waited)
        ]
        if several:
            self._submit_all(several)

    def _submit_all(self, several: Sequence[Mapping[str, Point]]) -> None:
        """A job for each mapping of names to points."""
        from submitit import AutoExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        cluster = self.launch.cluster
        executor = AutoExecutor(folder=jobs_folder(self.folder), cluster=cluster, **self.launch.creating)
        at_a_time = {"slurm_array_parallelism": self.jobs} if self.jobs else {}
        here = Path.cwd()
        made = [
            PointsJob([self._task(name, point) for name, point in points.items()], self.environment, here)
            for points in several
        ]
        try:
            executor.update_parameters(**{**at_a_time, **self.launch.parameters})
            with said_in(self.folder / "jobs" / "submitit.log"):
                jobs = executor.submit_array(made)
        except (FailedJobError, FailedSubmissionError, ValueError) as error:
            said = [line for line in str(error).splitlines() if line.strip()]
            raise SpecError(OPTIONS, f"the jobs are refused: {said[-1].strip()}", "mend the options") from error
        submitted = [Submitted(job.job_id, cluster, tuple(points)) for job, points in zip(jobs, several, strict=True)]
        self._ledger.add(submitted)
        for each, job, points in zip(submitted, jobs, several, strict=True):
            self._wait_for(each, job).points |= points

    def _task(self, name: str, point: Point) -> PointTask:
        return task_of(self.sweep, self.folder, name, point, self.figures)

    def _ended(self, waited: _Waited) -> list[Ran]:
        """The points of a job that is over, each with the line of its log, or with what became of the job."""
        statuses = statuses_of(waited.job)
        by_name = dict(zip(waited.submitted.points, statuses, strict=True)) if statuses else {}
        found = []
        for name, point in waited.points.items():
            folder, log = self.folder / name, log_of(self.folder, name)
            status = 0 if read_manifest(folder).get("status") == "finished" else by_name.get(name, 1) or 1
            message = ""
            if status:
                told = last_line(log) if name in by_name and log.exists() else self._fate(waited.job)
                message = f"{told}; log: {log if log.exists() else waited.job.paths.stderr}"
            found.append(Ran(point, folder, status, message))
        return found

    def _fate(self, job: Job[Any]) -> str:
        state = "" if self.launch.cluster == "local" or job.state == "UNKNOWN" else f" ({job.state})"
        return f"job {job.job_id} ended{state} without a word, {job.paths.stderr} may have one"

    def _leave(self) -> None:
        if not self.waited:
            return
        if self.launch.cluster == "local":
            for each in self.waited.values():
                interrupt(each.job)
            return
        ids = sorted({job.split("_")[0] for job in self.waited})
        self.note(f"jobs {', '.join(ids)} go on: the same command collects them, scancel {' '.join(ids)} ends them")
