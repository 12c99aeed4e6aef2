"""How processes that compute one run agree on who does what, and what each tells: files beside the run's parts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from patchboard.store.folder import atomically
from patchboard.store.integrity import read_json

FOLDER = "parts/crew"
"""Of a run folder. What is in it is of the processes at work now, and of no use to any later one."""


class Claims:
    """Pieces of work, each of which the first process that asks for it has."""

    def __init__(self, crew: Path):
        self._folder = crew / "claims"
        self._folder.mkdir(parents=True, exist_ok=True)

    def take(self, name: str) -> bool:
        """Whether the piece is this process's to do. name: of its part."""
        try:
            os.close(os.open(self._folder / Path(name).name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True


def everything(name: str) -> bool:
    """As ``Claims.take``, of a process that is alone."""
    return True


@dataclass
class Tally:
    """What a process has done until now. done: phase -> steps. processor_seconds: phase -> its own.

    error: type, where, what and remedy of the error that it ended with. finished: whether it has gone through all.
    """

    done: dict[str, int] = field(default_factory=dict)
    token_layers: int = 0
    halved: int = 0
    processor_seconds: Mapping[str, float] = field(default_factory=dict)
    error: list[str] = field(default_factory=list)
    finished: bool = False

    def write(self, crew: Path, number: int) -> None:
        atomically(_file(crew, number), lambda path: path.write_text(json.dumps(asdict(self)), encoding="utf-8"))


def read_tally(crew: Path, number: int) -> Tally | None:
    """None of a process that has done nothing yet."""
    file = _file(crew, number)
    return Tally(**read_json(file)) if file.exists() else None


def _file(crew: Path, number: int) -> Path:
    return crew / f"tally-{number}.json"
