"""A W&B sweep file, run on this machine."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.api.display import as_text
from patchboard.api.result import Run
from patchboard.api.result import open as open_run
from patchboard.errors import SpecError
from patchboard.report.formats import formats_of
from patchboard.report.progress import Tick, in_notebook
from patchboard.report.progress import progress as drawn_progress
from patchboard.report.run_files import read_json, read_table
from patchboard.sweeps.file import load_sweep
from patchboard.sweeps.launch import Launch, launch_of
from patchboard.sweeps.run import Options, run_sweep
from patchboard.sweeps.show import print_sweep
from patchboard.user_paths import expanded


@dataclass(frozen=True, repr=False)
class Sweep:
    """The points of a sweep, collected: ``path`` is its folder, ``status`` 0 or the first failed point's, ``jobs`` are
    under way on a cluster, and without their points there is no table yet.

    Shows itself as a table. ``sweep`` makes it; ``Sweep(folder)`` reads a collected one again.

    >>> pb.Sweep(folder).table
    Traceback (most recent call last):
    patchboard.errors.RunFolderError: ...sweep.parquet: is missing: no finished run is here; ...
    """

    path: Path
    status: int = 0
    jobs: tuple[str, ...] = ()

    @cached_property
    def table(self) -> pl.DataFrame:
        """One row a point, intervention and setting: the varied parameters, then the best layer, its effect and CD."""
        return read_table(self.path, "sweep.parquet")

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """``sweep.json``: the best point, and each point's parameters, folder, status and value."""
        return read_json(self.path, "sweep.json")

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best point's ``parameters`` and ``value`` of the sweep's metric; None where it has none."""
        return self.summary["best"]

    @property
    def runs(self) -> Sequence[Run]:
        """The finished points' runs, in the order of the table."""
        return [open_run(self.path / point["folder"]) for point in self.summary["points"] if point["status"] == 0]

    def __repr__(self) -> str:
        return as_text(lambda console: print_sweep(self.path, console))

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def sweep(
    file: str | Path,
    *,
    jobs: int | None = None,
    count: int | None = None,
    out: str | Path | None = None,
    wandb: str = "off",
    progress: bool | None = None,
    launcher: str | None = None,
    launcher_options: str | Mapping[str, Any] | None = None,
    points_per_job: int | None = None,
    detach: bool = False,
    figures: str | Sequence[str] = (),
) -> Sweep:
    """Run the points of a W&B sweep file that are not finished yet, each as a command of its own, and collect them.

    jobs: points at a time, 1 by default; with a launcher jobs, by default as many as the cluster gives. count: points
    at most; a random or Bayesian search needs one. out: the sweep's folder, by default ``runs/sweep-NAME-DIGEST``.
    wandb: as of ``run``, of each point. progress: as of ``run``.
    launcher: ``submitit``, by which points are jobs of a SLURM cluster, ``points_per_job`` (1) in each.
    launcher_options: its parameters, a mapping or a YAML file. detach: submit them, and do not wait.
    figures: as of ``run``, of each point and of the sweep itself.
    A point that fails is a warning, and a row with its status. Raises SpecError for what is no sweep file and
    RunFolderError where another process runs the sweep.

    >>> pb.sweep("no-such-sweep.yaml")
    Traceback (most recent call last):
    patchboard.errors.SpecError: no-such-sweep.yaml: cannot be read (No such file or directory); ...
    """
    shown = progress is True or (progress is None and (sys.stderr.isatty() or in_notebook()))
    launch, formats = launch_of(launcher, launcher_options, points_per_job, detach), formats_of(figures, "figures")
    with drawn_progress(shown) as tick:
        return run_points(
            Path(file), jobs, count, out, wandb, tick, lambda line: warnings.warn(line, stacklevel=2), launch, formats
        )


def run_points(
    file: Path,
    jobs: int | None,
    count: int | None,
    out: str | Path | None,
    wandb: str,
    tick: Tick,
    told: Callable[[str], None],
    launch: Launch | None,
    figures: Sequence[str],
) -> Sweep:
    """As ``sweep``. told: a line for each point that failed, and for jobs that an interrupt leaves."""
    for flag, value in (("--jobs", jobs), ("--count", count)):
        if value is not None and value < 1:
            raise SpecError(flag, f"found {value}, expected a whole number ≥ 1", "give how many")
    folder = None if out is None else expanded(out)
    options = Options(
        jobs=jobs,
        count=count,
        out=folder,
        wandb=wandb,
        tick=lambda done, of: tick("points", done, of),
        failed=lambda line: told(f"point {line}"),
        launch=launch,
        note=told,
        figures=figures,
    )
    swept = run_sweep(load_sweep(expanded(file)), options)
    return Sweep(swept.folder, swept.status, swept.jobs)
