"""``patchboard sweep``: enumerate the file's points, run them, collect what they found."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from patchboard.errors import RunFolderError, SpecError
from patchboard.report.formats import VECTOR
from patchboard.store.folder import atomically
from patchboard.store.integrity import remove_left
from patchboard.store.version import STAMP, VERSION
from patchboard.sweeps.collect import Point, best_of, collected, table_of
from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.launch import Launch
from patchboard.sweeps.launched import Launched
from patchboard.sweeps.runner import Runner, environment_for, wandb_mode
from patchboard.sweeps.search import search_of
from patchboard.track.signals import sigterm_raises

FILES = tuple(f"sweep.{ending}" for ending in ("parquet", "json", "png", "csv", *VECTOR))
"""At the top of a sweep's folder, beside one folder for each point."""

Tick = Callable[[int, int], None]
"""Told (done, of)."""


@dataclass(frozen=True)
class Options:
    """How to run a sweep. launch: as jobs of a cluster. failed: told a line for each point that failed. note: told
    what is left to run by itself. figures: formats beside PNG, of each run and of the sweep's own."""

    jobs: int | None
    count: int | None
    out: Path | None
    wandb: str
    tick: Tick
    failed: Callable[[str], None]
    launch: Launch | None = None
    note: Callable[[str], None] = print
    figures: Sequence[str] = ()


@dataclass(frozen=True)
class Swept:
    """A sweep's folder, the first failed point's status or 0, and the jobs that are still under way."""

    folder: Path
    status: int
    jobs: tuple[str, ...] = ()


def run_sweep(sweep: SweepFile, options: Options) -> Swept:
    """Run all points that are not finished.

    Writes ``sweep.parquet``, ``sweep.json``, ``sweep.png`` and ``sweep.csv``, over the points of this call, but where
    jobs are left to run by themselves. Raises SpecError for a search that cannot be run and RunFolderError for a folder
    that another process works in.
    """
    if options.launch and options.launch.detach and sweep.method == "bayes":
        what = "a Bayesian search asks for a point when it knows what others found"
        raise SpecError("--detach", what, "leave it out, or use method: random")
    folder = options.out or Path("runs") / f"sweep-{sweep.name}-{sweep.digest[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0), sigterm_raises():
            remove_left(*(folder / name for name in FILES))
            points, jobs = _run_points(sweep, options, folder)
    except Timeout:
        what = "another process runs this sweep"
        raise RunFolderError(str(folder), what, "wait for it, or give another --out") from None
    if not jobs:
        _write(sweep, points, folder, options.figures)
    return Swept(folder, next((point.ran.status for point in points if point.ran.status), 0), jobs)


def _run_points(sweep: SweepFile, options: Options, folder: Path) -> tuple[list[Point], tuple[str, ...]]:
    """The points that are over, and the jobs of the others."""
    search = search_of(sweep, options.count, folder)
    runner = _runner(sweep, options, folder)
    points: list[Point] = []
    options.tick(0, search.count)
    with closing(runner.results(search)) as results:  # closing it interrupts the points that still run
        for ran in results:
            point = collected(ran, sweep)
            search.tell(ran.point, point.objective)
            points.append(point)
            if point.ran.status:
                options.failed(f"{ran.folder.name} failed with status {point.ran.status}: {point.ran.message}")
            options.tick(len(points), search.count)
    return points, tuple(runner.left)


def _runner(sweep: SweepFile, options: Options, folder: Path) -> Runner | Launched:
    if options.launch is None:
        jobs = options.jobs or 1
        return Runner(sweep, folder, jobs, environment_for(jobs, options.wandb, sweep.name), options.figures)
    environment = {"WANDB_RUN_GROUP": sweep.name, **wandb_mode(options.wandb)}
    return Launched(sweep, folder, options.launch, options.jobs, environment, options.note, options.figures)


def _write(sweep: SweepFile, points: list[Point], folder: Path, figures: Sequence[str]) -> None:
    from patchboard.sweeps.figure import draw_sweep

    table = table_of(points, sweep)
    atomically(folder / "sweep.parquet", lambda path: table.write_parquet(path, metadata={STAMP: str(VERSION)}))
    best = best_of(points, sweep)
    summary = {
        "version": VERSION,
        "name": sweep.name,
        "digest": sweep.digest,
        "method": sweep.method,
        "metric": sweep.metric,
        "goal": sweep.goal,
        "best": None if best is None else {"parameters": dict(best.ran.point), "value": best.objective},
        "points": [
            {
                "parameters": dict(point.ran.point),
                "folder": point.ran.folder.name,
                "status": point.ran.status,
                "message": point.ran.message,
                "value": point.objective,
            }
            for point in points
        ],
    }
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    atomically(folder / "sweep.json", lambda path: path.write_text(text, encoding="utf-8"))
    drawn = draw_sweep(table, [parameter.name for parameter in sweep.varied], folder, figures)
    for ending in ("png", "csv", *VECTOR):
        if not drawn or ending in set(VECTOR) - set(figures):  # of an earlier call, with other points
            (folder / f"sweep.{ending}").unlink(missing_ok=True)
