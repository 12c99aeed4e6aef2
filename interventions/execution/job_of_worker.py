"""What a process is handed that computes a share of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchboard.execution.model_run import ModelRun
from patchboard.execution.options import Options
from patchboard.execution.progress import Progress
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.model import ModelPlan
from patchboard.plan.packs import Budget
from patchboard.plugin_files import active_files
from patchboard.store.folder import RunFolder

Plugins = tuple[tuple[Path, dict[Path, str]], ...]


@dataclass(frozen=True)
class Job:
    """What to compute, as ``ModelRun`` has it, without what is of one process alone.

    plugins: as ``plugins_now`` gives them, by which they are the same over there.
    """

    plan: ModelPlan
    name: str
    prefix: str
    digest: str
    bootstrap: Bootstrap
    budget: Budget
    threads: int
    trusted: bool
    plugins: Plugins

    def run_in(self, folder: Path, device: str, progress: Progress) -> ModelRun:
        options = Options(folder, device=device)
        return ModelRun(
            self.plan, self.name, self.prefix, RunFolder(folder, self.digest), options, progress, self.bootstrap
        )


def plugins_now() -> Plugins:
    """The active plug-in files of this process, as ``Job`` has them."""
    return tuple((file.path, file.digests) for file in active_files())
