"""One model of a run: what is handed to whoever computes it, here or on a host, and what is returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from patchboard.execution.options import Options
from patchboard.execution.progress import Progress
from patchboard.measure.scored_group import ScoreTables
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.model import Group, ModelPlan
from patchboard.store.folder import RunFolder

Measure = Callable[[Group, ScoreTables], None]
"""Called with each group once all of its scores lie in the folder's parts."""


@dataclass(frozen=True)
class ModelRun:
    """What to compute, how, and the folder that keeps it.

    name: what tells the model from the others of the run. prefix: of its files' names where there are several, else
    empty.
    """

    plan: ModelPlan
    name: str
    prefix: str
    folder: RunFolder
    options: Options
    progress: Progress
    bootstrap: Bootstrap

    @property
    def vectors_file(self) -> str:
        return f"{self.prefix}vectors.safetensors"

    @property
    def note_head(self) -> str:
        """Begins a note on this model, where there are several to tell apart."""
        return f"{self.name}: " if self.prefix else ""


@dataclass(frozen=True)
class ModelResult:
    """What the manifest tells of a model once it is computed; its numbers lie in the folder's parts.

    entry: of the manifest's ``models``. engine: how its cells were computed, and why. notes: what a reader must know.
    """

    entry: dict[str, Any]
    engine: str
    notes: list[str]


def model_entry(plan: ModelPlan, parameters: Mapping[str, int], dtype: str, device: str, **more: Any) -> dict[str, Any]:
    """A model's entry in the manifest. parameters: as ``counted`` gives them. dtype: with or without ``torch.``."""
    packaged = plan.section.packaged
    return {
        "name": plan.section.name,
        "revision": plan.section.revision,
        **({"packaged": packaged.described()} if packaged else {}),
        **plan.section.changes,
        "family": plan.facts.family,
        "layers": plan.facts.layers,
        "width": plan.facts.width,
        **parameters,
        "dtype": dtype.removeprefix("torch."),
        "device": device,
        **more,
    }
