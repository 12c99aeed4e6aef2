"""A run as a row: what its manifest, summary and spec say, without its tables."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from patchboard.errors import PatchboardError
from patchboard.report.described_values import values_of
from patchboard.report.findings import departures
from patchboard.spec.yaml_text import read_yaml
from patchboard.store.folder import read_manifest
from patchboard.store.integrity import LOCK, MANIFEST, SPEC, read_json
from patchboard.store.progress import INTERRUPTED, read_told
from patchboard.store.version import VERSION
from patchboard.view.effects import effects_of, largest_cd
from patchboard.view.find import Place

SUMMARY = "summary.json"
REPORT = "report.html"
MOST_EFFECTS = 40
"""Of a run that a row holds, the largest first."""

_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Row:
    """What the page shows of a folder.

    status: finished, running, failed, interrupted, sweep, or wrong where it is no run, or a damaged one. told: a line
    on that. share: of the running phase that is done, in [0, 1]. when: finished, or begun where it is not, in seconds
    since 1970. took: seconds. effects: as ``effects_of`` gives them, ``more`` others left out. cd: at the first one's
    layer, of a run without effects the largest. point: the sweep's parameters. notes: fallbacks and queries left out.
    """

    folder: str
    name: str = ""
    digest: str = ""
    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    metric: str = ""
    effects: tuple[Mapping[str, Any], ...] = ()
    more: int = 0
    cd: str = "-"
    cd_value: float | None = None
    status: str = "wrong"
    told: str = ""
    share: float | None = None
    when: float | None = None
    took: float | None = None
    point: str = ""
    notes: tuple[str, ...] = ()


def row_of(place: Place) -> Row:
    """Of any folder: what cannot be read is told in its row."""
    folder = "/".join(place.relative) or place.path.name
    if place.wrong:
        return Row(folder, told=place.wrong)
    try:
        row = _of_run(place, folder)
        json.dumps(asdict(row), allow_nan=False)  # or one of many rows would be the end of the page
        return row
    except PatchboardError as error:
        where = Path(error.where).name
        return Row(folder, told=f"{where} {error.what}" if where in place.files else error.what)
    except _DAMAGED as error:
        return Row(folder, told=f"is no run that this version reads ({type(error).__name__}: {_short(error)})")


def _of_run(place: Place, folder: str) -> Row:
    if MANIFEST not in place.files:
        return Row(folder, told=f"holds a run without its {MANIFEST}")
    manifest = read_manifest(place.path)
    if manifest["version"] != VERSION:
        return Row(folder, told=f"was written in format {manifest['version']}, this is {VERSION}")
    own = Row(folder, name=_name(manifest, place), digest=manifest["digest"][:8])
    if manifest.get("status") != "finished":
        return _unfinished(replace(own, **_of_spec(place)), place)
    summary = read_json(place.path / SUMMARY)
    if not isinstance(summary, dict):
        raise TypeError(f"{SUMMARY} is no mapping")
    own = replace(
        own,
        status="finished",
        told=_on_report(place),
        when=place.files[MANIFEST].changed / 1e9,
        took=manifest.get("seconds", {}).get("total"),
        notes=tuple(departures(manifest)) if "fallbacks" in manifest else (),
    )
    if "interventions" not in summary or "models" not in manifest:  # an experiment's: its page says what it found
        return own
    effects = effects_of(summary)
    cd = effects[0] if effects else largest_cd(summary)
    return replace(
        own,
        models=tuple(_model(each) for each in manifest["models"]),
        tasks=_tasks(manifest, summary),
        metric=summary["metric"],
        effects=tuple(effects[:MOST_EFFECTS]),
        more=len(effects[MOST_EFFECTS:]),
        cd=cd["cd"],
        cd_value=cd["cd_value"],
    )


def _on_report(place: Place) -> str:
    """A line where there is none. It is made last, while the run still holds its folder."""
    if REPORT in place.files:
        return ""
    if LOCK in place.files:
        return "its report is being drawn"
    return f"{REPORT} is missing: `patchboard report` draws it again"


def _tasks(manifest: Mapping[str, Any], summary: Mapping[str, Any]) -> tuple[str, ...]:
    """The family, then the tasks in order."""
    families = dict.fromkeys(str(each["family"]) for each in manifest["tasks"] if "family" in each)
    tasks = dict.fromkeys(task for entry in summary["interventions"].values() for task in entry.get("per_task", ()))
    return (", ".join(families), *tasks)


def _model(entry: Mapping[str, Any]) -> str:
    return entry["name"] if entry.get("revision", "main") == "main" else f"{entry['name']}@{entry['revision']}"


def _name(manifest: Mapping[str, Any], place: Place) -> str:
    if "name" in manifest:
        return str(manifest["name"])
    return str(_of_spec(place).get("name", place.path.name))


def _of_spec(place: Place) -> dict[str, Any]:
    """name, models and tasks of a run whose manifest does not have them yet; nothing where it has no spec yet."""
    if SPEC not in place.files:
        return {}
    name, models, families = _read_spec(place.path / SPEC, place.files[SPEC].changed)
    return {"name": name, "models": models, "tasks": families and (", ".join(families),)}


@lru_cache(maxsize=1000)
def _read_spec(file: Path, changed: int) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Reading one takes tens of milliseconds. changed: when the file was, so that another is read."""
    spec = read_yaml(file.read_text(encoding="utf-8"), str(file))
    models, families = (values_of(spec.get(section), key) for section, key in (("model", "name"), ("tasks", "family")))
    return str(spec["name"]), _texts(models), _texts(families)


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(value) for value in values if value is not None))


def _unfinished(own: Row, place: Place) -> Row:
    found = read_told(place.path)
    if found is None:
        busy = LOCK in place.files
        told = "in use, or killed: nothing here tells which" if busy else "unfinished; its command resumes it"
        return replace(own, status=INTERRUPTED, told=told, when=place.files[MANIFEST].changed / 1e9)
    told, written = found
    share = told.done / told.of if told.of else None
    at = f"{told.phase} {100 * share:.0f} %" if share is not None else "at the beginning"
    if told.is_running(written):
        return replace(own, status="running", told=at, share=share, when=told.begun, took=time.time() - told.begun)
    stopped = replace(own, when=told.begun, took=written - told.begun)
    if told.stopped in ("", INTERRUPTED):
        how = "killed" if not told.stopped else "stopped"
        return replace(stopped, status=INTERRUPTED, told=f"{how} at {at}; its command resumes it")
    return replace(stopped, status="failed", told=told.stopped)


def _short(error: BaseException) -> str:
    return re.sub(r"\s+", " ", str(error))[:120]
