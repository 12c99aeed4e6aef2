"""A mixture of regressions, from its settings to a finished folder: train to a checkpoint, measure it, go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from patchboard.engine.device import device_map_for
from patchboard.errors import RunFolderError
from patchboard.execution.identity import RESULTS_VERSION
from patchboard.execution.options import Options
from patchboard.execution.plan_numbers import costs_of
from patchboard.execution.plugin_sources import plugin_sources
from patchboard.execution.results import bootstrap_of
from patchboard.experiment.frame import Summary, Tables, TrainingExperiment
from patchboard.experiment.page import Page
from patchboard.experiment.training import Trainer
from patchboard.experiment.training_state import bind_to_device
from patchboard.experiments.synthetic.baselines import baseline_errors
from patchboard.experiments.synthetic.checkpoint import CheckpointEngine, error_table
from patchboard.experiments.synthetic.findings import findings, introduction, overview
from patchboard.experiments.synthetic.model import build_model
from patchboard.experiments.synthetic.questions import Questions, questions_of
from patchboard.experiments.synthetic.settings import SyntheticSettings, study_in
from patchboard.experiments.synthetic.summary import matrix_table, summarise
from patchboard.experiments.synthetic.training import loss_curve, trainer_of
from patchboard.measure.effects import effects
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.statistics import Bootstrap
from patchboard.store.folder import RunFolder, atomically
from patchboard.store.identity import Identity

MEASURED = ("errors", "decodability", "outcomes")
"""Tables of which each checkpoint gives its part."""
CHECKPOINTS = "checkpoints"
"""Folder of the weights at each checkpoint, and of the training's own state."""


@dataclass(frozen=True)
class Preparation:
    settings: SyntheticSettings
    questions: Questions
    bootstrap: Bootstrap


class Synthetic(TrainingExperiment[Preparation, SyntheticSettings]):
    tables = tuple(f"{name}.parquet" for name in ("training", "baselines", *MEASURED, "effects", "matrix"))

    def plan(self, settings: SyntheticSettings) -> dict[str, Any]:
        """Sizes and counts, without training anything."""
        model, training = settings.model, settings.training
        blocks = model.layers * (12 * model.width**2 + 13 * model.width)
        tokens = training.batch * 2 * settings.data.pairs
        cost = costs_of([self.prepare(settings).questions.plan], "auto", remote=False)[0].as_dict()
        counts = ", ".join(f"{cost[name]} {name}" for name in ("cells", "queries", "forwards", "token_layers"))
        return {
            "tasks": ", ".join(settings.data.tasks),
            "parameters": blocks + 2 * settings.data.pairs * model.width + (settings.data.inputs + 6) * model.width + 1,
            "steps": training.steps,
            "tokens a step": tokens,
            # 6 operations a parameter and token: forward, and backward by inputs and by weights
            "petaflop of training": round(6e-15 * blocks * tokens * training.steps, 3),
            "checkpoints": ", ".join(map(str, settings.steps())),
            "a checkpoint": counts,
            "ways": cost["ways"],
        }

    def prepare(self, settings: SyntheticSettings) -> Preparation:
        study = study_in(settings)
        return Preparation(settings, questions_of(settings, study), bootstrap_of(study))

    def identity(self, settings: SyntheticSettings, place: Path, fresh: bool) -> Identity:
        return Identity(RESULTS_VERSION, plugins=plugin_sources(study_in(settings)))

    def compute(self, subject: Preparation, folder: RunFolder, options: Options) -> Tables:
        settings, bootstrap = subject.settings, subject.bootstrap
        device = torch.device("cpu" if device_map_for(options.device) is None else "cuda")
        if options.fresh:
            _remove_checkpoints(folder.path / CHECKPOINTS)
        bind_to_device(folder, device)
        tables = {"baselines.parquet": _baselines(subject, options)}
        trainer = trainer_of(settings, folder.path / CHECKPOINTS / "training.pt", device)
        model = build_model(settings.model, settings.data.inputs, settings.data.pairs, 0).to(device).eval()
        engine = CheckpointEngine(model, subject.questions, bootstrap, "auto")

        def trained(done: int) -> None:
            options.tick("training", done, settings.training.steps)

        drift: dict[str, float] = folder.manifest.get("drift", {})
        for step in settings.steps():
            if folder.unsound(_part(step, name) for name in MEASURED):
                model.load_state_dict(_weights(step, trainer, folder.path / CHECKPOINTS, trained))
                measures = engine.measure(step)
                for name in MEASURED:
                    folder.write_table(_part(step, name), getattr(measures, name))
                drift[str(step)] = measures.drift
                folder.update_manifest(drift=drift)
        for name in MEASURED:
            parts = [folder.read_table(_part(step, name)) for step in settings.steps()]
            tables[f"{name}.parquet"] = pl.concat(parts)
        outcomes = index_outcomes(tables["outcomes.parquet"].lazy())
        folder.update_manifest(
            parameters=sum(weight.numel() for weight in trainer.model.parameters()),
            noise_floor=max(drift.values(), default=0.0),
            seconds={"training": round(trainer.seconds, 1)},
        )
        return tables | {
            "training.parquet": loss_curve(trainer.losses),
            "effects.parquet": effects(outcomes, bootstrap),
            "matrix.parquet": matrix_table(outcomes, bootstrap),
        }

    def summarise(self, subject: Preparation, tables: Tables) -> dict[str, Any]:
        return summarise(subject.settings, _by_name(tables))

    def findings(self, summary: Summary) -> list[str]:
        return findings(summary)

    def page(self, subject: Preparation, tables: Tables, summary: Summary) -> Page:
        from patchboard.experiments.synthetic.figures import drawings

        settings = subject.settings
        return Page(
            settings.name, introduction(settings), findings(summary), overview(summary), settings.yaml,
            drawings(settings, summary, _by_name(tables)),
        )  # fmt: skip


def _by_name(tables: Tables) -> Tables:
    return {file.removesuffix(".parquet"): table for file, table in tables.items()}


def _part(step: int, name: str) -> str:
    return f"parts/step{step}-{name}.parquet"


def _baselines(subject: Preparation, options: Options) -> pl.DataFrame:
    """A row for each estimator, task and pair."""
    settings, tests, rows = subject.settings, subject.questions.tests, []
    for number, drawn in enumerate(tests):
        for name, errors in baseline_errors(drawn, settings.data.mixture, settings.baselines).items():
            table = error_table(drawn.task, errors, subject.bootstrap)
            rows.append(table.select(pl.lit(name).alias("baseline"), pl.all()))
        options.tick("baselines", number + 1, len(tests))
    return pl.concat(rows)


def _weights(step: int, trainer: Trainer, folder: Path, progress: Callable[[int], None]) -> Mapping[str, torch.Tensor]:
    """The checkpoint of a step, trained now or as it was kept. Raises RunFolderError where it is lost."""
    file = folder / f"step{step}.safetensors"
    if not file.exists():
        if trainer.step > step:
            what = f"is missing, and the training is at step {trainer.step}"
            raise RunFolderError(str(file), what, "use --fresh to start over")
        trainer.train_to(step, progress)
        trainer.save()
        weights = {name: value.detach().cpu().contiguous() for name, value in trainer.model.state_dict().items()}
        atomically(file, lambda path: save_file(weights, path))
    return load_file(file)


def _remove_checkpoints(folder: Path) -> None:
    """What ``open_run`` does not know to be ours; nothing else that may stand there."""
    for file in (*folder.glob("step*.safetensors"), folder / "training.pt"):
        file.unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
