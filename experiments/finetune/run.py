"""One experiment from its settings to a finished folder: train twice, run the library on all models, compare."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import torch

from patchboard.engine.device import device_of
from patchboard.engine.load import load_weights, open_model
from patchboard.errors import RunFolderError, SpecError
from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.execution.run import plan_study, run_study
from patchboard.experiment.conditions import Condition, compare_conditions, summary_of_comparison
from patchboard.experiment.models_beside import short_name
from patchboard.experiment.settings import told_of_study
from patchboard.experiments.finetune.adapters import (
    WHICH,
    Which,
    adapted,
    layers_of,
    save_merged,
    trained_parameters,
)  # fmt: skip
from patchboard.experiments.finetune.samples import Sample, samples_of
from patchboard.experiments.finetune.settings import Settings, study_on
from patchboard.experiments.finetune.training import train
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import ModelPlan
from patchboard.plan.validate import check_study
from patchboard.spec import Study, dump_yaml
from patchboard.store.folder import RunFolder, open_run
from patchboard.store.integrity import remove_run

TRAINING = {"adapter": pl.String(), "step": pl.Int32(), "loss": pl.Float64()}
"""Columns of training.parquet; adapter: first or last; step: from 1; loss: nats a token of an answer, its batch's."""
TABLES = ("training.parquet", "compared.parquet")
MODELS, COMPARED, STATED = "models", "compared", "stated"
"""Folders inside the experiment's: the finetuned models, and the library's runs (with the concept stated: the last)."""

PRETRAINED, PROMPTING = "pretrained", "prompting"
_VERSIONS = ("patchboard", "torch", "transformers", "peft", "nnsight", "numpy")

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Asked:
    """All that can be known before a weight is read. study: on the model as it is; stated: the same, prompted."""

    study: Study
    stated: Study | None
    plans: list[ModelPlan]
    tokenizer: Any
    facts: ModelFacts
    samples: list[Sample]
    conditions: list[str]


def asked_of(settings: Settings) -> Asked:
    """Everything that can be refused is refused here: nothing is trained for a study that cannot run."""
    for field, value in settings.model.changes.items():
        what = f"found {value}, which would be put on the finetuned models once more"
        raise SpecError(f"model.{field}", what, "save the changed model as a folder of its own and name it")
    study = study_on(settings, [settings.model.name])
    stated = None
    if settings.stated is not None:
        if "{task}" not in settings.stated:
            raise SpecError("stated", "does not hold {task}", 'write it as in "{task}\\n", or null')
        stated = study_on(settings, [settings.model.name], settings.stated)
    with told_of_study():
        check_study(study)
    tokenizer, facts = open_model(settings.model)
    for which in WHICH:
        layers_of(which, settings.adapter, facts.layers)
    samples = samples_of(study.points[0].spec, settings.training, tokenizer, facts)
    with told_of_study():
        plans = [plan for each in (study, stated) if each is not None for plan in plan_study(each)]
    conditions = [PRETRAINED, *(_condition(settings, which) for which in WHICH), *([PROMPTING] if stated else [])]
    return Asked(study, stated, plans, tokenizer, facts, samples, conditions)


def _condition(settings: Settings, which: Which) -> str:
    many = settings.adapter.layers
    return f"{which} {many} layer{'s' * (many > 1)}"


def folder_of(settings: Settings, out: Path | None) -> Path:
    return out or Path("runs") / f"{settings.name}-{settings.digest[:8]}"


def run(settings: Settings, out: Path | None, fresh: bool, device: str, tick: Tick) -> Path:
    """Run, resume or just find the experiment's folder; returns it. settings: ``settled``. Raises PatchboardError."""
    # with --fresh before the folder is cleared: bad input must not cost the results that are there
    asked = asked_of(settings) if fresh else None
    with open_run(folder_of(settings, out), settings.digest, fresh) as folder:
        if folder.finished and not folder.unsound([*TABLES, "summary.json", "report.html"]):
            return folder.path
        if fresh:
            _remove_own(folder.path)
        asked = asked or asked_of(settings)
        _run(settings, asked, folder, device, tick)
        _report(folder, asked)
        folder.update_manifest(status="finished")
        folder.drop_parts()
        return folder.path


def _remove_own(path: Path) -> None:
    """What ``open_run`` does not know to be ours; nothing else that may stand in the folder."""
    for which in WHICH:
        shutil.rmtree(path / MODELS / which, ignore_errors=True)
    for name in (COMPARED, STATED):
        remove_run(path / name)
    for name in (MODELS, COMPARED, STATED):
        if (path / name).is_dir() and not any((path / name).iterdir()):
            (path / name).rmdir()


def _run(settings: Settings, asked: Asked, folder: RunFolder, device: str, tick: Tick) -> None:
    folder.write_text("spec.yaml", dump_yaml(settings.model_dump()))
    if folder.unsound(["training.parquet"]) or not all((folder.path / MODELS / which).is_dir() for which in WHICH):
        trained = [_trained(settings, asked, which, folder, device, tick) for which in WHICH]
        folder.write_table("training.parquet", pl.concat(trained))
    losses = folder.read_table("training.parquet")
    models = [settings.model.name, *(str(folder.path.resolve() / MODELS / which) for which in WHICH)]
    options = Options(folder.path / COMPARED, False, "auto", device, tick)
    conditions = _of_run(run_study(study_on(settings, models), options), asked.conditions[:3], models)
    if asked.stated is not None:
        stated = run_study(asked.stated, Options(folder.path / STATED, False, "auto", device, tick))
        conditions += _of_run(stated, [PROMPTING])
    comparison = compare_conditions(conditions, bootstrap_of(asked.study))
    folder.write_table("compared.parquet", comparison)
    folder.write_json("summary.json", _summary(settings, asked, comparison, losses))
    folder.update_manifest(versions={name: importlib.metadata.version(name) for name in _VERSIONS})


def _of_run(run: Path, names: list[str], models: list[str] | None = None) -> list[Condition]:
    """The run's conditions: one for each of the models that it sweeps, or one."""
    outcomes = pl.scan_parquet(run / "outcomes.parquet", glob=False)
    decodability = pl.read_parquet(run / "decodability.parquet", glob=False)
    if models is None:
        return [Condition(name, outcomes, decodability) for name in names]
    mine = pl.col("model.name")
    return [
        Condition(name, outcomes.filter(mine == model), decodability.filter(mine == model))
        for name, model in zip(names, models, strict=True)
    ]


def _trained(
    settings: Settings, asked: Asked, which: Which, folder: RunFolder, device: str, tick: Tick
) -> pl.DataFrame:
    """TRAINING of one model, whose merged weights are in its folder afterwards."""
    place, curve = folder.path / MODELS / which, f"parts/{which}.parquet"
    if place.is_dir() and folder.has(curve):
        return folder.read_table(curve)
    model = load_weights(settings.model, device, settings.model.dtype)
    _bind(folder, device_of(model).type)
    layers = layers_of(which, settings.adapter, asked.facts.layers)
    model = adapted(model, settings.adapter, layers, settings.training.seed)
    folder.update_manifest(**{f"trained_parameters_{which}": trained_parameters(model)})
    told = f"training the {which} layers"
    losses = train(
        model, asked.samples, settings.training, folder.path / "parts" / f"{which}.pt",
        lambda done, of: tick(told, done, of),
    )  # fmt: skip
    table = pl.DataFrame({"adapter": which, "step": range(1, len(losses) + 1), "loss": losses}).cast(TRAINING)  # type: ignore[arg-type]
    folder.write_table(curve, table)
    half = folder.path / "parts" / f"{which}-model"
    shutil.rmtree(half, ignore_errors=True)
    save_merged(model, asked.tokenizer, half)
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(half, place)
    return table


def _bind(folder: RunFolder, device: str) -> None:
    """Note where the training is. Raises RunFolderError where it was begun on another kind of device."""
    known = folder.manifest.get("device", device)
    if known != device:
        what = f"was begun on {known}, this run is on {device}"
        raise RunFolderError(str(folder.path), what, f"use --device {known}, or --fresh to start over")
    folder.update_manifest(device=device, threads=torch.get_num_threads())


def _summary(settings: Settings, asked: Asked, comparison: pl.DataFrame, losses: pl.DataFrame) -> dict[str, Any]:
    spec = asked.study.points[0].spec
    return {
        "version": 1,
        "model": short_name(settings.model.name),
        "family": spec.tasks.family,
        "level": spec.statistics.level,
        "layers": {which: layers_of(which, settings.adapter, asked.facts.layers) for which in WHICH},
        "model_layers": asked.facts.layers,
        "samples": len(asked.samples),
        "losses": {which: losses.filter(pl.col("adapter") == which)["loss"].to_list() for which in WHICH},  # fmt: skip
        "training": settings.training.model_dump(),
        "adapter": settings.adapter.model_dump(),
        **summary_of_comparison(comparison),
    }


def _report(folder: RunFolder, asked: Asked) -> None:
    # matplotlib takes a second to load
    from patchboard.experiment.conditions_figures import drawings
    from patchboard.experiment.conditions_findings import overview
    from patchboard.experiment.page import Page, write_page
    from patchboard.experiments.finetune.figures import training_curve
    from patchboard.experiments.finetune.findings import findings, introduction

    summary = json.loads((folder.path / "summary.json").read_text(encoding="utf-8"))
    found = pl.read_parquet(folder.path / COMPARED / "decodability.parquet", glob=False)
    models = found["model.name"].unique(maintain_order=True).to_list()
    conditions = _of_run(folder.path / COMPARED, asked.conditions[:3], models)
    if asked.stated is not None:
        conditions += _of_run(folder.path / STATED, [PROMPTING])
    text = (folder.path / "spec.yaml").read_text(encoding="utf-8")
    page = Page(
        "Finetuned layers",
        introduction(summary),
        findings(summary),
        overview(summary),
        text,
        chain(drawings(summary, conditions), training_curve(summary)),
    )
    write_page(folder.path, page)
