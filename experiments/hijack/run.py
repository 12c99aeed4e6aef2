"""One experiment from its settings to a finished folder: train, read the memories, measure, report."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file

from patchboard.engine.device import device_map_for
from patchboard.experiments.hijack.measures import MARGINS, OUTCOMES, PLACES, by_place, margins, score_prompts
from patchboard.experiments.hijack.memories import MEMORIES, read_memories
from patchboard.experiments.hijack.model import TwoLayers
from patchboard.experiments.hijack.prompts import prompt_sets
from patchboard.experiments.hijack.settings import Hijack, Positions
from patchboard.experiments.hijack.summary import summarise
from patchboard.experiments.hijack.training import CURVE, train
from patchboard.measure.statistics import Bootstrap
from patchboard.spec.yaml_text import dump_yaml
from patchboard.store.folder import RunFolder, atomically, open_run
from patchboard.tasks.bigram import BigramTable, draw_sequences, zipf_table

MODEL = {"positions": pl.String(), "seed": pl.Int64()}
"""What names a model in every table of a run's folder."""
TABLES = {
    "training.parquet": {**MODEL, **CURVE},
    "outcomes.parquet": {**MODEL, **OUTCOMES},
    "margins.parquet": {**MODEL, **MARGINS},
    "places.parquet": {**MODEL, **PLACES},
    "memories.parquet": {**MODEL, **MEMORIES},
}
WEIGHTS = "weights.safetensors"
_BINS = 8
"""Bins of the training length in which places are pooled."""

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trained:
    """A trained model and its curve."""

    positions: Positions
    seed: int
    model: TwoLayers
    curve: pl.DataFrame

    @property
    def name(self) -> str:
        return f"{self.positions}-{self.seed}"

    def named(self, table: pl.DataFrame) -> pl.DataFrame:
        """The table with the columns that name this model in front."""
        return table.select(pl.lit(self.positions).alias("positions"), pl.lit(self.seed).alias("seed"), pl.all())


def folder_of(settings: Hijack, out: Path | None) -> Path:
    return out or Path("runs") / f"{settings.name}-{settings.digest[:8]}"


def language_of(settings: Hijack) -> BigramTable:
    own = settings.language
    return zipf_table(own.vocab, own.common, own.strengths, own.exponent, own.seed)


def run(settings: Hijack, out: Path | None, fresh: bool, device: str, tick: Tick) -> Path:
    """Run, resume or just find the experiment's folder; returns it. Raises PatchboardError."""
    place = "cpu" if device_map_for(device) is None else "cuda"
    with open_run(folder_of(settings, out), settings.digest, fresh) as folder:
        if folder.finished and not folder.unsound([*TABLES, WEIGHTS, "summary.json", "report.html"]):
            return folder.path
        folder.write_text("spec.yaml", dump_yaml(settings.model_dump()))
        start = time.monotonic()
        table = language_of(settings)
        models = list(_trained(settings, table, folder, place, tick))
        spent = time.monotonic() - start
        found = _measured(settings, table, models, tick)
        for name, columns in TABLES.items():
            folder.write_table(name, found[name].cast(columns))  # type: ignore[arg-type]
        atomically(folder.path / WEIGHTS, lambda path: save_file(_weights(models), path))
        summary = summarise(settings, found)
        folder.write_json("summary.json", summary)
        _report(folder, settings, summary)
        names = ("patchboard", "torch", "numpy")
        folder.update_manifest(
            status="finished",
            versions={name: importlib.metadata.version(name) for name in names},
            device=place,
            threads=torch.get_num_threads(),
            seconds={"training": round(spent, 1), "all": round(time.monotonic() - start, 1)},
        )
        folder.drop_parts()
        return folder.path


def _trained(settings: Hijack, table: BigramTable, folder: RunFolder, device: str, tick: Tick) -> Iterator[Trained]:
    for positions in settings.model.positions:
        for seed in settings.training.seeds:
            model = TwoLayers(settings.shape(positions), seed).to(device)
            curve = train(
                model, table, settings.language.triggers, settings.training, seed,
                folder.path / "parts" / f"{positions}-{seed}.pt",
                lambda done, of, name=f"{positions} {seed}": tick(name, done, of),
            )  # fmt: skip
            yield Trained(positions, seed, model, curve)


def _measured(settings: Hijack, table: BigramTable, models: list[Trained], tick: Tick) -> dict[str, pl.DataFrame]:
    """All tables of the folder."""
    triggers, trained = settings.language.triggers, settings.training.length
    statistics = settings.statistics
    bootstrap = Bootstrap(statistics.bootstrap, statistics.level, statistics.seed)
    sets = list(prompt_sets(settings, table))
    rng = np.random.default_rng([settings.prompts.seed, 0x5E9])
    ordinary = draw_sequences(table, triggers, settings.prompts.each, settings.longest, rng)
    rows: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
    for number, each in enumerate(models):
        outcomes = pl.concat([score_prompts(each.model, prompts, table, triggers) for prompts in sets])
        made = {
            "training.parquet": each.curve,
            "outcomes.parquet": outcomes,
            "margins.parquet": margins(outcomes, bootstrap),
            "places.parquet": by_place(each.model, ordinary, max(1, trained // _BINS), bootstrap),
            "memories.parquet": read_memories(each.model, table, trained),
        }
        for name, found in made.items():
            rows[name].append(each.named(found))
        tick("measuring", number + 1, len(models))
    return {name: pl.concat(found) for name, found in rows.items()}


def _weights(models: list[Trained]) -> dict[str, torch.Tensor]:
    """``{positions}-{seed}/{parameter}``."""
    return {
        f"{each.name}/{name}": parameter.detach().cpu().contiguous()
        for each in models
        for name, parameter in each.model.state_dict().items()
    }


def _report(folder: RunFolder, settings: Hijack, summary: dict[str, Any]) -> None:
    # matplotlib takes a second to load
    from patchboard.experiment.page import Page, write_page
    from patchboard.experiments.hijack.figures import drawings
    from patchboard.experiments.hijack.findings import findings, introduction, overview

    figures = drawings(settings, folder.read_table("margins.parquet"), folder.read_table("places.parquet"))
    text = (folder.path / "spec.yaml").read_text(encoding="utf-8")
    page = Page(settings.name, introduction(settings), findings(summary), overview(summary), text, figures)
    write_page(folder.path, page)
