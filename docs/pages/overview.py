"""What is finished of the pages and what is to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pages import stored
from pages.frame import Page, Project, Run
from patchboard.execution.identity import RESULTS_VERSION


def overview(project: Project, pages: Sequence[Page], runs: Path) -> Iterator[str]:
    """A line for each run. runs: where their folders are."""
    for page in pages:
        entries = stored.read(project, page.name)
        for name, run in page.runs.items():
            state = _state_of(project, run, entries.get(name), runs / page.name / name)
            lacking = run.lacks(project.root)
            yield f"{page.name}/{name}: {state}{f'; needs {lacking}, which is not here' if lacking else ''}"


def _state_of(project: Project, run: Run, entry: Mapping[str, Any] | None, folder: Path) -> str:
    if entry is None:
        return "begun" if folder.exists() else "to do"
    return stored.out_of_date(project, run, entry, RESULTS_VERSION) or f"finished {entry['date']}"
