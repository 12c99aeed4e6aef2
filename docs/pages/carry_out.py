"""A page's run: its script as a process of its own, in a folder that a killed run is gone on with."""

from __future__ import annotations

import json
import os
import resource
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from pages.frame import Project, Run

LINES = 12
"""Of a failed run's output that are shown."""


class RunFailed(Exception):
    """With the last lines of what the script said."""


@dataclass
class Record:
    """Beside a run's folder: processor seconds of all attempts so far (None: unknown), and whether one has finished."""

    file: Path
    seconds: float | None
    finished: bool = False

    def write(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps({"seconds": self.seconds, "finished": self.finished}), encoding="utf-8")


def carry_out(project: Project, run: Run, folder: Path) -> float | None:
    """Run the script until its folder is finished; returns the processor seconds that the run has taken in all.

    A folder that this has begun earlier and that the script now refuses, being of other weights, settings or an earlier
    results version, is started over. Raises RunFailed.
    """
    record = _record_of(folder)
    ours = record.file.is_file() or not folder.exists()
    record.write()
    output, status = _call(project, run, folder, record)
    if status == 2 and ours and "--fresh" in output:
        print(f"  {_last(output)}\n  started over", flush=True)
        record.seconds, record.finished = 0.0, False
        output, status = _call(project, run, folder, record, "--fresh")
    if status:
        raise RunFailed("\n".join([*output.splitlines()[-LINES:], f"exit status {status}: {run.command}"]))
    record.finished = True
    record.write()
    return record.seconds


def _record_of(folder: Path) -> Record:
    file = folder.with_name(f"{folder.name}.json")
    if file.is_file():
        return Record(file, **json.loads(file.read_text(encoding="utf-8")))
    return Record(file, None if folder.exists() else 0.0)


def _call(project: Project, run: Run, folder: Path, record: Record, *more: str) -> tuple[str, int]:
    """(all that the script said, its exit status). Its processor time is added, however it ends, until it has finished
    once: a finished run's script only looks at its folder."""
    command = [sys.executable, *shlex.split(run.command)[1:], *run.flags(folder.resolve()), *more]
    log = folder.with_name(f"{folder.name}.log")
    before = _seconds_of_children()
    try:
        with log.open("w", encoding="utf-8") as file:
            environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
            done = subprocess.run(
                command, cwd=project.root, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False
            )
    finally:
        if record.seconds is not None and not record.finished:
            record.seconds += _seconds_of_children() - before
        record.write()
    return log.read_text(encoding="utf-8", errors="replace"), done.returncode


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _last(output: str) -> str:
    return (output.strip().splitlines() or [""])[-1]
