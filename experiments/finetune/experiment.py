"""Finetuning, from its settings to a finished folder: train twice, run the library on all models, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.api.run import run as run_study
from patchboard.engine.trust import code_is_trusted
from patchboard.execution.identity import identity_of
from patchboard.execution.options import Options
from patchboard.execution.plan_numbers import costs_of
from patchboard.execution.results import bootstrap_of
from patchboard.experiment.conditions import Condition, compare_conditions, summary_of_comparison
from patchboard.experiment.conditions_findings import overview
from patchboard.experiment.frame import Summary, Tables, TrainingExperiment
from patchboard.experiment.models_beside import short_name
from patchboard.experiment.page import Page
from patchboard.experiment.settings import told_of_study
from patchboard.experiments.finetune.adapters import WHICH, adapted, trained_parameters, without_weights
from patchboard.experiments.finetune.findings import findings, introduction
from patchboard.experiments.finetune.models import ADAPTERS, RUNS, finetuned, remove_models_and_runs
from patchboard.experiments.finetune.preparation import Preparation, prepare
from patchboard.experiments.finetune.samples import steps_of_training
from patchboard.experiments.finetune.settings import FinetuneSettings, resolve_paths, study_of_settings
from patchboard.plan.validate import check_study
from patchboard.store.folder import RunFolder
from patchboard.store.identity import Identity

TRAINING = {"adapter": pl.String(), "step": pl.Int32(), "loss": pl.Float64()}
"""Columns of training.parquet; adapter: first or last; step: from 1; loss: nats a token of an answer, its batch's."""

PRETRAINED, PROMPTING = "pretrained", "prompting"


@dataclass(frozen=True)
class Finetune(TrainingExperiment[Preparation, FinetuneSettings]):
    """scripts: the folder of the script, whose models a YAML may name from there."""

    scripts: Path
    tables = ("training.parquet", "compared.parquet", "decodability.parquet")
    files = tuple(f"{ADAPTERS}/{which}/adapter_model.safetensors" for which in WHICH)

    def plan(self, settings: FinetuneSettings) -> dict[str, Any]:
        """Sizes and counts; configuration and tokenizer are read, no weights."""
        settings = resolve_paths(settings, self.scripts)
        preparation = prepare(settings)
        learning = {
            f"{which} layers": trained_parameters(
                adapted(without_weights(settings.model), settings.adapter, layers, settings.training.seed)
            )
            for which, layers in preparation.layers.items()
        }
        costs = [cost.as_dict() for cost in costs_of(preparation.plans, "auto", remote=False)]
        return {
            "model": settings.model.name,
            "samples": len(preparation.samples),
            "steps of each training": steps_of_training(len(preparation.samples), settings.training),
            "tokens of each training": settings.training.epochs * sum(len(each.ids) for each in preparation.samples),
            **{
                name: f"{', '.join(map(str, layers))} (of 0 to {preparation.facts.layers - 1}), {count:,} weights learn"
                for (name, count), layers in zip(learning.items(), preparation.layers.values(), strict=True)
            },
            "conditions": ", ".join(_names(preparation).values()),
            "measuring": "; ".join(
                ", ".join(f"{cost[name]} {name}" for name in ("cells", "queries", "forwards", "token_layers"))
                + f" for {'each of 3 models' if number == 0 else 'the stated prompts'}"
                for number, cost in enumerate(costs)
            ),
            "digest": settings.digest[:8],
        }

    def prepare(self, settings: FinetuneSettings) -> Preparation:
        return prepare(settings)

    def run(self, settings: FinetuneSettings, options: Options) -> Path:
        return super().run(resolve_paths(settings, self.scripts), options)

    def identity(self, settings: FinetuneSettings, place: Path, fresh: bool) -> Identity:
        study = study_of_settings(settings)
        with told_of_study():
            data = check_study(study)
        return identity_of(study, data, False, place, fresh, settings.digest)

    def compute(self, subject: Preparation, folder: RunFolder, options: Options) -> Tables:
        if options.fresh:
            remove_models_and_runs(folder.path, [*WHICH, PRETRAINED, PROMPTING])
        runs, curves = folder.path / RUNS, []
        how: dict[str, Any] = {"progress": options.tick, "trust_remote_code": code_is_trusted()}
        run_study(subject.study, out=runs / PRETRAINED, device=options.device, **how)
        for which in WHICH:
            model, losses = finetuned(subject, which, folder, options)
            curves.append(pl.DataFrame({"adapter": which, "step": range(1, len(losses) + 1), "loss": losses}))
            run_study(subject.study_in_memory, model=model, tokenizer=subject.tokenizer, out=runs / which, **how)
        if subject.stated is not None:
            run_study(subject.stated, out=runs / PROMPTING, device=options.device, **how)
        conditions = [_condition(name, runs / run) for run, name in _names(subject).items()]
        cd = [each.decodability.select(pl.lit(each.name).alias("condition"), pl.all()) for each in conditions]
        return {
            "training.parquet": pl.concat(curves).cast(TRAINING),  # type: ignore[arg-type]
            "compared.parquet": compare_conditions(conditions, bootstrap_of(subject.study)),
            "decodability.parquet": pl.concat(cd),
        }

    def summarise(self, subject: Preparation, tables: Tables) -> dict[str, Any]:
        settings, spec, losses = subject.settings, subject.study.points[0].spec, tables["training.parquet"]
        return {
            "version": 1,
            "model": short_name(settings.model.name),
            "family": spec.tasks.family,
            "level": spec.statistics.level,
            "layers": subject.layers,
            "model_layers": subject.facts.layers,
            "samples": len(subject.samples),
            "losses": {which: losses.filter(pl.col("adapter") == which)["loss"].to_list() for which in WHICH},
            "training": settings.training.model_dump(),
            "adapter": settings.adapter.model_dump(),
            **summary_of_comparison(tables["compared.parquet"]),
        }

    def findings(self, summary: Summary) -> list[str]:
        return [*findings(summary), *summary.get("departures", ())]

    def runs(self, subject: Preparation, folder: RunFolder) -> Sequence[Path]:
        return [folder.path / RUNS / name for name in _names(subject)]

    def page(self, subject: Preparation, tables: Tables, summary: Summary) -> Page:
        from patchboard.experiment.conditions_figures import drawings
        from patchboard.experiments.finetune.figures import training_curve

        by_condition = tables["decodability.parquet"].partition_by("condition", maintain_order=True, as_dict=True)
        decodability = {str(name): table for (name,), table in by_condition.items()}
        return Page(
            "Finetuned layers", introduction(summary), self.findings(summary), overview(summary), subject.settings.yaml,
            chain(drawings(summary, decodability), training_curve(summary)),
        )  # fmt: skip


def _names(preparation: Preparation) -> dict[str, str]:
    """Folder of each run -> its condition's name, the base's first."""
    layers = preparation.settings.adapter.layers
    trained = {which: f"{which} {layers} layer{'s' * (layers > 1)}" for which in WHICH}
    return {PRETRAINED: PRETRAINED} | trained | ({PROMPTING: PROMPTING} if preparation.stated else {})


def _condition(name: str, run: Path) -> Condition:
    outcomes = pl.scan_parquet(run / "outcomes.parquet", glob=False)
    return Condition(name, outcomes, pl.read_parquet(run / "decodability.parquet", glob=False))
