"""One experiment from its settings to a finished folder: train to a checkpoint, examine it, go on; then report."""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from patchboard.engine.device import device_map_for
from patchboard.errors import RunFolderError
from patchboard.experiments.synthetic.baselines import baseline_errors
from patchboard.experiments.synthetic.examined import Examiner, error_table
from patchboard.experiments.synthetic.model import build_model
from patchboard.experiments.synthetic.planned import Planned, planned
from patchboard.experiments.synthetic.settings import Settings, study_in
from patchboard.experiments.synthetic.summary import matrix_table, summarise
from patchboard.experiments.synthetic.training import LOGGED, Trainer
from patchboard.measure.effects import effects
from patchboard.measure.scan import scanned
from patchboard.measure.statistics import Bootstrap
from patchboard.spec import Study, dump_yaml
from patchboard.store.folder import RunFolder, atomically, open_run

EXAMINED = ("errors", "decodability", "outcomes")
TABLES = ("training", "baselines", *EXAMINED, "effects", "matrix")
STATE = "parts/training.pt"
_VERSIONS = ("patchboard", "torch", "transformers", "nnsight", "numpy", "scikit-learn")

Tick = Callable[[str, int, int], None]


def folder_of(settings: Settings, out: Path | None) -> Path:
    return out or Path("runs") / f"{settings.name}-{settings.digest[:8]}"


def run(settings: Settings, out: Path | None, fresh: bool, device: str, tick: Tick) -> Path:
    """Run, resume or just find the experiment's folder; returns it. Raises PatchboardError."""
    study = study_in(settings)
    asked = planned(settings, study)
    place = "cpu" if device_map_for(device) is None else "cuda"
    with open_run(folder_of(settings, out), settings.digest, fresh) as folder:
        if not folder.finished or folder.unsound([f"{name}.parquet" for name in TABLES]):
            _run(settings, study, asked, folder, torch.device(place), tick)
        if folder.unsound(["report.html"]):
            _report(folder, settings)
    return folder.path


def _run(settings: Settings, study: Study, asked: Planned, folder: RunFolder, device: torch.device, tick: Tick) -> None:
    known = folder.manifest.get("device", device.type)
    if known != device.type:
        what = f"was begun on {known}, this run is on {device.type}"
        raise RunFolderError(str(folder.path), what, f"use --device {known}, or --fresh to start over")
    folder.update_manifest(device=device.type, threads=torch.get_num_threads())
    folder.write_text("spec.yaml", dump_yaml(settings.model_dump()))
    statistics = study.points[0].spec.statistics
    bootstrap = Bootstrap(statistics.bootstrap, statistics.level, statistics.seed)
    steps = settings.steps()
    baselines = []
    for number, drawn in enumerate(asked.tests):
        for name, errors in baseline_errors(drawn, settings.data.mixture, settings.baselines).items():
            table = error_table(drawn.task, errors, bootstrap)
            baselines.append(table.select(pl.lit(name).alias("baseline"), pl.all()))
        tick("baselines", number + 1, len(asked.tests))
    folder.write_table("baselines.parquet", pl.concat(baselines))
    (folder.path / "parts").mkdir(exist_ok=True)
    trainer = Trainer(settings, folder.path / STATE, device, lambda done, of: tick("training", done, of))
    model = build_model(settings.model, settings.data.inputs, settings.data.pairs, 0).to(device).eval()
    examiner = Examiner(model, asked, bootstrap, "auto")
    drift, began = dict(folder.manifest.get("drift", {})), time.monotonic()
    for step in steps:
        if all(folder.has(_part(step, name)) for name in EXAMINED):
            continue
        model.load_state_dict(_weights(step, trainer, folder))
        found = examiner.examine(step)
        for name in EXAMINED:
            folder.write_table(_part(step, name), getattr(found, name))
        drift[str(step)] = found.drift
        folder.update_manifest(drift=drift)
    for name in EXAMINED:
        folder.write_table(f"{name}.parquet", pl.concat(folder.read_table(_part(step, name)) for step in steps))
    outcomes = scanned(folder.scan_table("outcomes.parquet"))
    folder.write_table("effects.parquet", effects(outcomes, bootstrap))
    folder.write_table("matrix.parquet", matrix_table(outcomes, bootstrap))
    logged = [LOGGED * (i + 1) for i in range(len(trainer.losses))]
    folder.write_table("training.parquet", pl.DataFrame({"step": logged, "loss": trainer.losses}))
    folder.write_json(
        "summary.json", summarise(settings, {name: folder.read_table(f"{name}.parquet") for name in TABLES})
    )
    folder.update_manifest(
        status="finished",
        versions={name: importlib.metadata.version(name) for name in _VERSIONS},
        parameters=sum(p.numel() for p in trainer.model.parameters()),
        seconds={"training": round(trainer.seconds, 1), "this process": round(time.monotonic() - began, 1)},
        noise_floor=max(drift.values(), default=0.0),
    )


def _part(step: int, name: str) -> str:
    return f"parts/step{step}-{name}.parquet"


def _weights(step: int, trainer: Trainer, folder: RunFolder) -> Mapping[str, torch.Tensor]:
    """The checkpoint of a step, trained now or as it was kept. Raises RunFolderError where it is lost."""
    kept = folder.path / "parts" / f"step{step}.safetensors"
    if not kept.exists():
        if trainer.step > step:
            what = f"is missing, and the training is at step {trainer.step}"
            raise RunFolderError(str(kept), what, "use --fresh to start over")
        trainer.to(step)
        weights = {name: value.detach().cpu().contiguous() for name, value in trainer.model.state_dict().items()}
        atomically(kept, lambda path: save_file(weights, path))
    return load_file(kept)


def _report(folder: RunFolder, settings: Settings) -> None:
    # matplotlib takes a second to load
    from patchboard.experiment.page import Page, write_page
    from patchboard.experiments.synthetic.figures import drawings
    from patchboard.experiments.synthetic.findings import findings, introduction, overview

    summary: Mapping[str, Any] = json.loads((folder.path / "summary.json").read_text(encoding="utf-8"))
    tables = {name: folder.read_table(f"{name}.parquet") for name in TABLES}
    text = (folder.path / "spec.yaml").read_text(encoding="utf-8")
    page = Page(
        settings.name,
        introduction(settings),
        findings(summary),
        overview(summary),
        text,
        drawings(settings, summary, tables),
    )
    write_page(folder.path, page)
