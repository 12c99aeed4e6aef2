"""How to run, and what a run collects on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.errors import RunFolderError
from patchboard.measure.self_checks import Checks
from patchboard.measure.statistics import Bootstrap
from patchboard.store.folder import RunFolder

Tick = Callable[[str, int, int], None]
"""Told (phase, done, of), for progress."""


ENGINES = ("auto", "wavefront", "packed", "rows")
DEVICES = ("auto", "cpu", "cuda")

HERE = "here"
"""In this process: the manifest's ``where`` of a local run."""


@dataclass(frozen=True)
class Remote:
    """Where to run but here. url: of the host, empty for NDIF's (or NDIF_HOST).

    job_tokens: about how many a job may hold. patience: seconds that the host may be silent. vectors: bring the
    fitted vectors home. tell: told a line of each step of each job.
    """

    url: str = ""
    job_tokens: int = 200_000
    patience: float = 60.0
    vectors: bool = False
    tell: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Options:
    """How to run: nothing here enters the digest or may change a number beyond rounding."""

    out: Path | None = None
    fresh: bool = False
    engine: str = "auto"
    device: str = "auto"
    tick: Tick = lambda phase, done, of: None
    remote: Remote | None = None


@dataclass
class RunState:
    """What a run collects on its way."""

    folder: RunFolder
    options: Options
    bootstrap: Bootstrap
    seconds: dict[str, float] = field(default_factory=dict)
    fallbacks: list[str] = field(default_factory=list)
    checks: Checks = field(default_factory=Checks)
    engines: dict[str, str] = field(default_factory=dict)
    models: list[dict[str, Any]] = field(default_factory=list)
    decodings: list[pl.DataFrame] = field(default_factory=list)

    def bind(self, where: str) -> None:
        """Note where the run is computed: parts of two hosts, or of a host and this machine, are not to be mixed.

        where: a host's URL, or HERE. Raises RunFolderError.
        """
        known = self.folder.manifest.get("where", where)
        if known != where:
            what = f"holds parts computed {_place(known)}, this run is {_place(where)}"
            raise RunFolderError(str(self.folder.path), what, "use --fresh to start over, or another --out")
        self.folder.update_manifest(where=where)

    def bind_to_files(self, files: Mapping[str, str]) -> None:
        """Note the contents of a model's files that no revision names. Raises RunFolderError where they have changed.

        files: path -> sha256.
        """
        known = self.folder.manifest.get("model_files", {})
        changed = [file for file, digest in files.items() if known.get(file, digest) != digest]
        if changed:
            what = f"was run on other contents of {changed[0]}"
            raise RunFolderError(str(self.folder.path), what, "use --fresh to start over, or another --out")
        if files:
            self.folder.update_manifest(model_files={**known, **files})

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 3)


def _place(where: str) -> str:
    return "on this machine" if where == HERE else f"by {where}"
