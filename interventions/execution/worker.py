"""A process that computes a share of a run: a resumed run that takes what nobody else has taken.

    python -m patchboard.execution.worker FOLDER/parts/crew NUMBER DEVICE

The run that has started it holds the folder's lock, writes the manifest, fits the vectors and then says on standard
input how cells are computed. Where that process ends, standard input does, and this one with it.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import time
import traceback
from pathlib import Path
from queue import Queue
from typing import Any, BinaryIO

from patchboard import errors
from patchboard.engine.trust import trusting
from patchboard.errors import PatchboardError, PluginError
from patchboard.execution.claims import Claims, Tally
from patchboard.execution.job_of_worker import Job, Plugins, plugins_now
from patchboard.execution.progress import Progress
from patchboard.execution.shares import work_through
from patchboard.plugin_files import activate


def main(crew: Path, number: int, device: str, orders: BinaryIO) -> int:
    """orders: a line of JSON that says how cells are computed, and whose end is this process's. Gives the exit status
    of what it does itself; anything else that goes wrong is a traceback."""
    told = _follow(orders)
    with open(crew / "job.pickle", "rb") as file:
        job: Job = pickle.load(file)
    tally = Tally()

    def tick(phase: str, done: int, of: int) -> None:
        tally.done[phase] = done
        tally.write(crew, number)

    progress = Progress(tick)
    progress.add_processor_seconds({"load": time.process_time()})  # of imports
    try:
        _use(job.plugins)
        with trusting(job.trusted):
            run = job.run_in(crew.parents[1], device, progress)
            work_through(run, job.budget, job.threads, Claims(crew).take, tally, told.get)
    except PatchboardError as error:
        tally.error = _told_apart(error)
    progress.add_processor_seconds({"total": time.process_time()})
    tally.processor_seconds, tally.finished = progress.processor_seconds, True
    tally.write(crew, number)
    return 1 if tally.error else 0


def _follow(orders: BinaryIO) -> Queue[Any]:
    """What is told, as it comes. The process is gone as soon as nobody can tell it anything."""
    told: Queue[Any] = Queue()

    def listen() -> None:
        for line in orders:
            told.put(json.loads(line))
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    return told


def _use(plugins: Plugins) -> None:
    """Raises PluginError where a file is another one than it was."""
    activate([path for path, _ in plugins])
    for (path, digests), (_, own) in zip(plugins, plugins_now(), strict=True):
        if digests != own:
            raise PluginError(str(path), "was edited while the run went on", "the same command resumes or refuses it")


def _told_apart(error: PatchboardError) -> list[str]:
    """Its nearest type that ``errors`` has, and what it says."""
    kind = next(kind for kind in type(error).__mro__ if getattr(errors, kind.__name__, None) is kind)
    return [kind.__name__, error.where, error.what, error.remedy]


if __name__ == "__main__":
    status = 1
    try:
        status = main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.stdin.buffer)
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(status)  # its parts are in place: a thread that listens, and libraries, can only hang at exit
