"""How to run: nothing here enters the digest or may change a number beyond rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from patchboard.errors import SpecError
from patchboard.execution.progress import Tick
from patchboard.registry import suggest

ENGINES = ("auto", "wavefront", "rows")
DEVICES = ("auto", "cpu", "cuda")
_GONE = {"packed": "use wavefront, which computes the same copies in less work"}
"""Engines that there were -> what to do."""


def check_engine(name: str, where: str) -> None:
    """Raises SpecError at ``where`` for an engine that there is not."""
    if name not in ENGINES:
        raise SpecError(where, f"there is no engine '{name}'", _GONE.get(name, suggest(name, ENGINES)))


@dataclass(frozen=True)
class Remote:
    """Where to run but here. url: of the host, empty for NDIF's (or NDIF_HOST).

    job_tokens: about how many a job may hold. patience: seconds that the host may be silent. vectors: bring the
    fitted vectors home. tell: called with a line on each step of each job.
    """

    url: str = ""
    job_tokens: int = 200_000
    patience: float = 60.0
    vectors: bool = False
    tell: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Options:
    """out: the run's folder, by default ``planned.folder_of`` the study. fresh: start over instead of resuming.

    figures: formats of figures beside PNG, of ``report.formats.VECTOR``. devices: how many share the run, a process
    each, or one process on all where the model is too large for one; None for one process, where ``device`` says.
    """

    out: Path | None = None
    fresh: bool = False
    engine: str = "auto"
    device: str = "auto"
    tick: Tick = lambda phase, done, of: None
    remote: Remote | None = None
    figures: tuple[str, ...] = ()
    devices: int | None = None


def check_devices(devices: object, remote: bool, where: str) -> None:
    """Raises SpecError at ``where`` for a number of devices that cannot be meant."""
    if devices is None:
        return
    if not isinstance(devices, int) or isinstance(devices, bool) or devices < 1:
        raise SpecError(where, f"found {devices!r}, expected a whole number ≥ 1", "give how many")
    if remote:
        raise SpecError(where, "is of this machine, and the run is on a host", "leave one of the two out")


def check_calibration(asked: bool, remote: Remote | None, where: str) -> None:
    """Raises SpecError at ``where`` for a plan of a host, on whose model nothing is timed."""
    if asked and remote is not None:
        raise SpecError(where, "times a model in this process, and the plan is of a host", "leave one of the two out")
