"""Knowledge hijack, from its settings to a finished folder: train, read the memories, measure the margins."""

from __future__ import annotations

from typing import Any

from patchboard.execution.options import Options
from patchboard.experiment.frame import Summary, Tables, TrainingExperiment
from patchboard.experiment.page import Page
from patchboard.experiments.hijack.settings import HijackSettings
from patchboard.experiments.hijack.tables import TABLES
from patchboard.store.folder import RunFolder, atomically

# torch and matplotlib take seconds to load, which a plan can do without: what needs them is imported where it is used

WEIGHTS = "weights.safetensors"


class Hijack(TrainingExperiment[HijackSettings, HijackSettings]):
    tables = tuple(TABLES)
    files = (WEIGHTS,)

    def plan(self, settings: HijackSettings) -> dict[str, Any]:
        """Models, tokens they are trained on, and prompts they are measured on."""
        training, prompts = settings.training, settings.prompts
        kinds = len(prompts.counts) + len(prompts.distances) + 2 * len(prompts.lengths)
        return {
            "models": ", ".join(f"{positions}-{seed}" for positions, seed in settings.models),
            "steps of each": training.steps,
            "tokens that each is trained on": training.steps * training.batch * training.length,
            "prompts that each is measured on": kinds * prompts.each,
            "longest prompt": settings.longest,
            "digest": settings.digest[:8],
        }

    def prepare(self, settings: HijackSettings) -> HijackSettings:
        return settings

    def compute(self, subject: HijackSettings, folder: RunFolder, options: Options) -> Tables:
        from patchboard.experiments.hijack.models import measured, save_weights, trained_models

        models = trained_models(subject, folder, options)
        atomically(folder.path / WEIGHTS, lambda path: save_weights(models, path))
        return measured(subject, models, options.tick)

    def summarise(self, subject: HijackSettings, tables: Tables) -> dict[str, Any]:
        from patchboard.experiments.hijack.summary import summarise

        return summarise(subject, tables)

    def findings(self, summary: Summary) -> list[str]:
        from patchboard.experiments.hijack.findings import findings

        return findings(summary)

    def page(self, subject: HijackSettings, tables: Tables, summary: Summary) -> Page:
        from patchboard.experiments.hijack.figures import drawings
        from patchboard.experiments.hijack.findings import findings, introduction, overview

        return Page(
            subject.name, introduction(subject), findings(summary), overview(summary), subject.yaml,
            drawings(subject, tables["margins.parquet"], tables["places.parquet"]),
        )  # fmt: skip
