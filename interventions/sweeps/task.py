"""A point as what there is to do: its command, folder and log, and whether it is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from patchboard.report.formats import lacking
from patchboard.store.folder import read_manifest
from patchboard.sweeps.command import command_of
from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.parameter import Point


@dataclass(frozen=True)
class PointTask:
    """folder: of the point's run. log: of its command. figures: formats that the run is to have beside PNG."""

    folder: Path
    log: Path
    command: Sequence[str]
    figures: Sequence[str] = ()

    @property
    def is_done(self) -> bool:
        return read_manifest(self.folder).get("status") == "finished" and not lacking(self.folder, self.figures)


def task_of(sweep: SweepFile, folder: Path, name: str, point: Point, figures: Sequence[str]) -> PointTask:
    """folder: the sweep's. name: the point's folder in it."""
    command = command_of(sweep.command, sweep.program, point, folder / name, figures)
    return PointTask((folder / name).absolute(), log_of(folder, name).absolute(), command, figures)


def log_of(folder: Path, name: str) -> Path:
    """What the command of a point says. folder: the sweep's. name: of the point's folder."""
    return folder / "logs" / f"{name}.log"
