"""The numbers that a page is made of: docs/results/data/PAGE.json, with what they come from."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages.frame import Page, Project, Run
from patchboard.tasks.files import sha256_of

DIGITS = 6
"""Significant ones that are kept of a number: more than a page shows, fewer than rounding leaves equal."""


def read(project: Project, name: str) -> dict[str, Any]:
    """Run -> its entry, as `keep` stores it; empty where nothing is stored yet."""
    file = project.data / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def keep(project: Project, page: Page, name: str, folder: Path, seconds: float | None) -> None:
    """Store what the page wants of a finished run.

    seconds: processor time of the whole run, None where it isn't known. Of numbers that are stored already, equal ones
    of the same origin, the time and the date stay the first.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    identity = manifest.get("identity", {})
    origin = {
        "command": page.runs[name].command,
        "results_version": identity.get("results"),
        "models": identity.get("models", {}),
        "values": tidy(page.values(name, folder)),
    }
    entries = read(project, page.name)
    known = entries.get(name, {})
    if not known or any(known[key] != value for key, value in origin.items()):
        values = origin.pop("values")
        today = datetime.date.today().isoformat()
        entries[name] = {**origin, "seconds": tidy(seconds), "date": today, "values": values}
        project.data.mkdir(parents=True, exist_ok=True)
        in_order = {run: entries[run] for run in page.runs if run in entries}  # and of no run that the page dropped
        text = json.dumps(in_order, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        (project.data / f"{page.name}.json").write_text(text, encoding="utf-8")


def tidy(value: Any) -> Any:
    """As JSON gives it back: keys are texts, tuples lists, NaN is None; numbers have `DIGITS` digits."""
    if isinstance(value, Mapping):
        return {str(key): tidy(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [tidy(entry) for entry in value]
    value = value.item() if hasattr(value, "item") else value  # numpy's
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    return value


def out_of_date(project: Project, run: Run, entry: Mapping[str, Any], version: int) -> str | None:
    """Why stored numbers are not those that the code would give now, as far as that is seen without a run."""
    if entry["command"] != run.command:
        return f"stored numbers are of another command: {entry['command']}"
    if entry["results_version"] != version:
        noted = entry["results_version"]
        was = "before versions were noted" if noted is None else f"of results version {noted}"
        return f"stored numbers are {was}, the code's version is {version}"
    for file, noted in entry["models"].get("embedded", {}).items():
        own = project.weights / file
        if own.is_file() and sha256_of(own) != noted:
            return f"stored numbers are of other contents of {file} of the embedded model"
    return None
