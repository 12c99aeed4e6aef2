"""What a page is: its runs, what it stores of each, its figures, its template."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchboard.errors import ModelError
from patchboard.spec.packaged import PACKAGED

WITHOUT_WANDB = ("hijack", "finetune", "synthetic")
"""Scripts that train models of their own, and have no --wandb."""


class Run:
    """A script of experiments/ with its arguments, as a page's RUNS name it.

    needs: what not everybody has: a packaged model (``model.name``), a library, or a file (its path, with a ``/``).
    """

    def __init__(self, script: str, *arguments: str, needs: str | tuple[str, ...] = ()):
        self.script, self.arguments = script, arguments
        self.needs = (needs,) if isinstance(needs, str) else needs

    def lacks(self, root: Path) -> str | None:
        """The first thing needed that is not here. root: of the repository, where paths begin."""
        return next((need for need in self.needs if not _is_here(need, root)), None)

    @property
    def command(self) -> str:
        """As a reader would type it at the repository's root."""
        return shlex.join(["python", f"experiments/{self.script}.py", *self.arguments])

    def flags(self, folder: Path) -> list[str]:
        """What this script adds to the command: where to write, and to be silent."""
        return ["--out", str(folder), "--quiet", *([] if self.script in WITHOUT_WANDB else ["--wandb", "off"])]


def _is_here(need: str, root: Path) -> bool:
    if "/" in need:
        return (root / need).exists()
    if need not in PACKAGED:
        return importlib.util.find_spec(need) is not None
    from patchboard.engine.unpacked import check_had

    try:
        check_had(PACKAGED[need])
    except ModelError:
        return False
    return True


def nothing(name: str, folder: Path) -> dict[str, Any]:
    """The `values` of a page that has no runs of its own."""
    raise LookupError(f"{name}: a page with runs needs a function values(name, folder)")


@dataclass(frozen=True)
class Project:
    """Where things lie below a repository's root."""

    root: Path

    @property
    def pages(self) -> Path:
        return self.root / "docs" / "pages"

    @property
    def data(self) -> Path:
        return self.root / "docs" / "results" / "data"

    @property
    def figures(self) -> Path:
        return self.root / "docs" / "figures"

    @property
    def weights(self) -> Path:
        """Of the embedded model."""
        return self.root / "interventions" / "embedded" / "weights"

    def names(self) -> list[str]:
        """All pages: those with runs of their own in alphabetical order, then those that draw on theirs."""
        found = [self.page(template.name.removesuffix(".md.j2")) for template in self.pages.glob("*.md.j2")]
        return [page.name for page in sorted(found, key=lambda page: (not page.runs, page.name))]

    def page(self, name: str) -> Page:
        """Raises FileNotFoundError where docs/pages has no such page."""
        file = self.pages / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"pages.{name}", file)
        if spec is None or spec.loader is None or not file.is_file():
            raise FileNotFoundError(file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        place = getattr(module, "PLACE", f"docs/results/{name}.md")
        return Page(
            name, self.root / place, module.RUNS, getattr(module, "values", nothing), getattr(module, "FIGURES", {})
        )


@dataclass(frozen=True)
class Page:
    """place: of the rendered page. runs: by name. values: (run's name, its finished folder) -> what is stored of it;
    a page without runs needs none.

    figures: file in docs/figures -> (run's name, path in its folder).
    """

    name: str
    place: Path
    runs: Mapping[str, Run]
    values: Callable[[str, Path], Mapping[str, Any]]
    figures: Mapping[str, tuple[str, str]]
