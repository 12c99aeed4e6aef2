"""The models of an experiment, one for each kind of positions and seed: trained, and measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file

from patchboard.engine.device import device_map_for
from patchboard.execution.options import Options, Tick
from patchboard.experiment.frame import Tables
from patchboard.experiment.training_state import bind_to_device
from patchboard.experiments.hijack.measures import by_place, margins, score_prompts
from patchboard.experiments.hijack.memories import read_memories
from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.prompts import prompt_sets
from patchboard.experiments.hijack.settings import HijackSettings, Positions
from patchboard.experiments.hijack.tables import TABLES
from patchboard.experiments.hijack.training import train
from patchboard.measure.statistics import Bootstrap
from patchboard.store.folder import RunFolder
from patchboard.tasks.bigram import BigramTable, draw_sequences, zipf_table

_BINS = 8
"""Bins of the training length in which places are pooled."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model and its curve."""

    positions: Positions
    seed: int
    model: TwoLayers
    curve: pl.DataFrame

    def named(self, table: pl.DataFrame) -> pl.DataFrame:
        """The table with the columns that name this model in front."""
        return table.select(pl.lit(self.positions).alias("positions"), pl.lit(self.seed).alias("seed"), pl.all())


def language_of(settings: HijackSettings) -> BigramTable:
    own = settings.language
    return zipf_table(own.vocab, own.common, own.strengths, own.exponent, own.seed)


def trained_models(settings: HijackSettings, folder: RunFolder, options: Options) -> list[TrainedModel]:
    """All models of the settings, trained here or gone on with from the folder's parts."""
    device = torch.device("cpu" if device_map_for(options.device) is None else "cuda")
    bind_to_device(folder, device)
    table, models = language_of(settings), []
    for positions, seed in settings.models:
        model = TwoLayers(settings.shape(positions), seed).to(device)
        curve = train(
            model, table, settings.language.triggers, settings.training, seed,
            folder.path / "parts" / f"{positions}-{seed}.pt",
            lambda done, of, name=f"{positions} {seed}": options.tick(name, done, of),
        )  # fmt: skip
        models.append(TrainedModel(positions, seed, model, curve))
    return models


def measured(settings: HijackSettings, models: list[TrainedModel], tick: Tick) -> Tables:
    """All tables of the folder."""
    triggers, trained_length = settings.language.triggers, settings.training.length
    statistics, table = settings.statistics, language_of(settings)
    bootstrap = Bootstrap(statistics.bootstrap, statistics.level, statistics.seed)
    sets = list(prompt_sets(settings, table))
    rng = np.random.default_rng([settings.prompts.seed, 0x5E9])
    ordinary = draw_sequences(table, triggers, settings.prompts.each, settings.longest, rng)
    rows: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
    for number, each in enumerate(models):
        outcomes = pl.concat([score_prompts(each.model, prompts, table, triggers) for prompts in sets])
        tables = {
            "training.parquet": each.curve,
            "outcomes.parquet": outcomes,
            "margins.parquet": margins(outcomes, bootstrap),
            "places.parquet": by_place(each.model, ordinary, max(1, trained_length // _BINS), bootstrap),
            "memories.parquet": read_memories(each.model, table, trained_length),
        }
        for name, own in tables.items():
            rows[name].append(each.named(own))
        tick("measuring", number + 1, len(models))
    return {name: pl.concat(parts).cast(TABLES[name]) for name, parts in rows.items()}  # type: ignore[arg-type]


def save_weights(models: list[TrainedModel], file: Path) -> None:
    """Of all models, as ``{positions}-{seed}/{parameter}``."""
    weights = {
        f"{each.positions}-{each.seed}/{name}": parameter.detach().cpu().contiguous()
        for each in models
        for name, parameter in each.model.state_dict().items()
    }
    save_file(weights, file)
