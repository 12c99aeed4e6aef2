"""Which features of dictionaries a run's edits are of: a table, and notes on those that say nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.execution.model_run import ModelRun
from patchboard.spec import Study
from patchboard.store.folder import RunFolder
from patchboard.store.schema import FEATURES, FEATURES_FILE
from patchboard.store.vectors import read_stamp
from patchboard.vectors.dictionaries.choice import Choice


def has_features(study: Study) -> bool:
    """Whether some edit is of a dictionary's features."""
    variants = (variant for point in study.points for variant in point.variants)
    return any(part.vector and part.vector.sae for variant in variants for part in variant.section.parts)


def write_features(folder: RunFolder, vectors: Iterable[str]) -> None:
    """Write store.schema.FEATURES from what these files of vectors are stamped with."""
    rows = [row for name in vectors for row in _rows(folder.path / name)]
    folder.write_table(FEATURES_FILE, pl.DataFrame(rows, schema=FEATURES, orient="row"))


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    stamp = read_stamp(file)
    for key, place in json.loads(stamp["places"]).items():
        label, task, _ = key.rsplit("/", 2)
        where = {"model": stamp["model"], "intervention": label, "vector_task": task}
        where |= {"layer": place["layer"], "site": place["site"], "dictionary": place["fitted"].get("file")}
        for feature in place["fitted"].get("features", ()):
            told = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in feature.items()}
            yield where | told


def notes_on_silent(run: ModelRun, chosen: Mapping[str, Choice]) -> list[str]:
    """Notes on features that were active in no fit prompt: their unit is 0 there, whatever ``value`` is."""
    silent: dict[str, dict[int, None]] = {}
    for key, choice in chosen.items():
        label, task, layer = key.rsplit("/", 2)
        if "~" not in task:
            quiet = [number for number, largest in zip(choice.numbers, choice.largest, strict=True) if largest == 0]
            silent.setdefault(f"{label} at layer {layer}", {}).update(dict.fromkeys(quiet))
    return [
        f"{run.note_head}{where}: features active in no fit prompt, whose largest activation is 0:"
        f" {', '.join(map(str, numbers))}"
        for where, numbers in silent.items()
        if numbers
    ]
