"""The explorer of a run's page, in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.report.explored import explorer_page, framed
from patchboard.report.run_files import read_run
from patchboard.store.folder import atomically
from patchboard.user_paths import expanded


class Explorer:
    """The explorer of a run's page, as the last line of a notebook's cell; ``Run.explore`` makes it.

    All of it lies in the output, in a frame of its own: it asks for nothing, keeps what is chosen to itself, and works
    in a notebook that is opened again without Python. ``html`` is the same as a page, ``save`` writes that.

    >>> explorer = run.explore(task="XOR")
    >>> explorer.html.startswith("<!doctype html>"), "<iframe" in explorer._repr_html_()
    (True, True)
    """

    def __init__(self, html: str, title: str):
        self.html, self._title = html, title

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, which needs nothing beside it; returns its path.

        >>> run.explore().save(folder / "explorer.html").name
        'explorer.html'
        """
        file = expanded(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        atomically(file, lambda half: half.write_text(self.html, encoding="utf-8"))
        return file

    def __repr__(self) -> str:
        size = len(self.html.encode()) / 1e6
        return f"<{self._title}, {size:.1f} MB: shown in a notebook; .save(file) writes a page>"

    def _repr_html_(self) -> str:
        return framed(self.html, self._title)


def explorer_of(folder: Path, others: Sequence[Path], start: dict[str, Any], queries: bool) -> Explorer:
    """As ``Run.explore``. start: ``intervention``, ``metric``, ``task`` and ``layer``, each or None."""
    run = read_run(folder)
    known = {
        "intervention": list(run.spec["interventions"]),
        "metric": run.curves["metric"].unique(maintain_order=True).to_list(),
        "task": run.effects["task"].unique(maintain_order=True).to_list(),
        "layer": run.curves["layer"].unique().sort().to_list(),
    }
    for name, value in start.items():
        if value is not None and value not in known[name]:
            near = suggest(str(value), map(str, known[name]))
            raise SpecError("explore", f"the run has no {name} {value!r}", near)
    short = {name[0]: value for name, value in start.items() if value is not None}
    page = explorer_page(run, [read_run(other) for other in others], short, queries)
    if page is None:
        raise SpecError("explore", "the run has no intervention to show", "give its spec some")
    return Explorer(page, f"explorer of {folder.resolve().name}")
