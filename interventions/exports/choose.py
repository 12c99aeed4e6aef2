"""Which of a run's vectors are written out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchboard.api.vectors import parts_of, vector_files
from patchboard.errors import SpecError
from patchboard.ops import FeatureTensors
from patchboard.registry import suggest
from patchboard.spec.layers import parse_layers
from patchboard.store.vectors import read_operand, read_stamp, vector_keys
from patchboard.vectors.base import Operand


@dataclass(frozen=True)
class Wanted:
    """What the flags ask for, by name; none: all. layers: as in a spec, "" for all. A control's vectors are meant where
    their task is named (``XOR~random0``)."""

    interventions: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    layers: str = ""


@dataclass(frozen=True)
class Chosen:
    """The vectors of one model of a run.

    name: of their files. model: its entry in the manifest. stamp: of the file that they lie in, its ``places`` those of
    ``operands`` alone.
    """

    name: str
    model: Mapping[str, Any]
    stamp: Mapping[str, str]
    operands: Mapping[str, Operand]

    @property
    def places(self) -> dict[str, dict[str, Any]]:
        """Key -> where an operand is of, and how it was fitted."""
        return json.loads(self.stamp["places"])


def choose(folder: Path, models: Sequence[Mapping[str, Any]], wanted: Wanted) -> list[Chosen]:
    """The chosen vectors of each model. models: the manifest's. Features of a dictionary are left out: they are in the
    dictionary's own file.

    Raises RunFolderError where the folder has none, SpecError at a flag that chooses nothing.
    """
    files = vector_files(folder)
    chosen = [_of_file(file, model, wanted) for file, model in zip(files, models, strict=True)]
    chosen = [one for one in chosen if one.operands]
    if not chosen:
        raise SpecError(*_nothing([key for file in files for key in vector_keys(file)], wanted))
    return chosen


def _of_file(file: Path, model: Mapping[str, Any], wanted: Wanted) -> Chosen:
    layers = parse_layers(wanted.layers, model["layers"], "--layer") if wanted.layers else None
    keys = []
    for key in vector_keys(file):
        label, place, task = parts_of(key)
        layer = place if isinstance(place, int) else place[0]
        named = task in wanted.tasks if wanted.tasks else "~" not in task
        of_intervention = not wanted.interventions or intervention_of(label) in wanted.interventions
        if named and of_intervention and (layers is None or layer in layers):
            keys.append(key)
    stamp = read_stamp(file)
    places = json.loads(stamp["places"])
    keys = [key for key in keys if not isinstance(read_operand(file, key), FeatureTensors)]
    stamp |= {"places": json.dumps({key: places[key] for key in keys})}
    return Chosen(file.stem, model, stamp, {key: read_operand(file, key) for key in keys})


def intervention_of(label: str) -> str:
    """The intervention whose vectors have this label: without swept values and the number of an edit."""
    name, _, _ = label.partition("@")
    base, _, number = name.rpartition(".")
    return base if base and number.isdigit() else name


def _nothing(keys: Sequence[str], wanted: Wanted) -> tuple[str, str, str]:
    """(flag, what, remedy) of a choice that leaves none."""
    parts = [parts_of(key) for key in keys]
    interventions = dict.fromkeys(intervention_of(label) for label, _, _ in parts)
    tasks = dict.fromkeys(task for _, _, task in parts)
    for flag, names, known in (
        ("--intervention", wanted.interventions, interventions),
        ("--task", wanted.tasks, tasks),
    ):
        for name in names:
            if name not in known:
                return flag, f"the run has no vectors of '{name}'", suggest(name, known)
    what = "no vector of the run is at these layers, interventions and tasks (features of dictionaries are none)"
    return "--layer", what, "choose others"
