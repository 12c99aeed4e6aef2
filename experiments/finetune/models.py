"""The two finetuned models: trained, their adapters kept beside the tables, and merged for the library to run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from patchboard.engine.device import device_of
from patchboard.engine.load import load_weights
from patchboard.execution.options import Options
from patchboard.experiment.training_state import bind_to_device
from patchboard.experiments.finetune.adapters import WHICH, Which, adapted, trained_parameters
from patchboard.experiments.finetune.preparation import Preparation
from patchboard.experiments.finetune.training import train
from patchboard.store.folder import RunFolder
from patchboard.store.integrity import remove_run

ADAPTERS, RUNS = "adapters", "compared"
"""Folders inside the experiment's: the adapters as peft saves them, and the library's runs."""


def finetuned(preparation: Preparation, which: Which, folder: RunFolder, options: Options) -> tuple[Any, list[float]]:
    """The model with its trained adapters merged into the weights, and each step's loss; gone on with from parts."""
    settings = preparation.settings
    model = load_weights(settings.model, options.device, settings.model.dtype)
    bind_to_device(folder, device_of(model))
    model = adapted(model, settings.adapter, preparation.layers[which], settings.training.seed)
    folder.update_manifest(**{f"trained_parameters_{which}": trained_parameters(model)})
    losses = train(
        model, preparation.samples, settings.training, folder.path / "parts" / f"{which}.pt",
        lambda done, of: options.tick(f"training the {which} layers", done, of),
    )  # fmt: skip
    _save_adapter(model, folder.path / ADAPTERS / which, folder.path / "parts" / f"{which}-adapter")
    return model.merge_and_unload(), losses


def _save_adapter(model: Any, place: Path, unfinished: Path) -> None:
    """As peft saves it, put in place at once: ``model.adapter`` of any spec takes the folder."""
    if place.is_dir():
        return
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished, save_embedding_layers=False)  # else peft asks the Hub for the base's vocabulary
    place.parent.mkdir(exist_ok=True)
    os.replace(unfinished, place)


def remove_models_and_runs(path: Path, runs: Iterable[str]) -> None:
    """What ``open_run`` does not know to be ours; nothing else that may stand in the folder."""
    for which in WHICH:
        shutil.rmtree(path / ADAPTERS / which, ignore_errors=True)
    for name in runs:
        remove_run(path / RUNS / name)
    for place in (*(path / RUNS / name for name in runs), path / RUNS, path / ADAPTERS):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()
