"""The story of indirect object identification: a run of places, heads and paths, then the task alone and the movers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.execution.options import Options
from patchboard.execution.run import run_study
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiment.models_beside import short_name
from patchboard.experiments.ioi import findings
from patchboard.experiments.ioi.measures import (
    SCREEN_TABLE,
    attending_table,
    cuts_table,
    heads_table,
    movers_of,
    places_table,
    screen_table,
    screened,
    task_table,
)
from patchboard.experiments.ioi.study import (
    MOVERS,
    OTHERS,
    checked,
    facts_of,
    movers_study,
    other_heads,
    screened_study,
    task_study,
    unranked_study,
)
from patchboard.measure.outcome_index import index_outcomes
from patchboard.measure.summary import without_nan
from patchboard.report.drawing import Drawing
from patchboard.spec import Study
from patchboard.store import EXAMINED
from patchboard.store.folder import RunFolder
from patchboard.tasks.families.ioi import TEMPLATES
from patchboard.tasks.resolve import build_family

TASK, PLACES, HEADS, CUTS = "task.parquet", "places.parquet", "heads.parquet", "cuts.parquet"
ATTENDING, SCREEN = "attending.parquet", "estimates.parquet"
_TASK_RUN, _MOVERS_RUN, _SCREEN_RUN = (f"{EXAMINED}-{name}" for name in ("task", "movers", "screen"))

_FIRST = (
    ("heads", "output", "flip"),
    ("heads_reordered", "output", "reordered"),
    ("to_logits", "logits", "flip"),
    ("to_logits_reordered", "logits", "reordered"),
)
_LAST = (
    (MOVERS, "movers", "turned"),
    (f"{MOVERS}_reordered", "movers", "reordered"),
    (OTHERS, "others", "turned"),
)
"""(intervention, what it is, source) of the first run's and the last run's effects of heads."""


@dataclass(frozen=True)
class IndirectObject(StudyExperiment):
    """movers: how many heads receive in the last run. window: layers in which attention is cut together."""

    movers: int = 3
    window: int = 5
    title = "Indirect object identification"
    prose = findings
    tables = (TASK, PLACES, HEADS, ATTENDING, SCREEN, CUTS)

    @property
    def variant(self) -> dict[str, Any]:
        return {"movers": self.movers}  # the window is part of the study

    def prepare(self, study: Study) -> Study:
        return checked(study, self.window, self.movers)

    def following(self, study: Study) -> list[Study]:
        return [task_study(study), unranked_study(study, self.movers)]

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        outcomes, bootstrap = index_outcomes(run.folder.scan_table("outcomes.parquet")), run.bootstrap
        alone = _run(task_study(run.study), folder.path / _TASK_RUN, options)
        prompts = alone.read_table("prompts.parquet").filter(pl.col("role") == "evaluate")
        task = task_table(alone.read_table("outcomes.parquet"), prompts, _templates(run), bootstrap)
        heads = heads_table(outcomes, bootstrap, _FIRST)
        last = _run(movers_study(run.study, movers_of(heads, self.movers)), folder.path / _MOVERS_RUN, options)
        places = places_table(outcomes, bootstrap)
        received = index_outcomes(last.scan_table("outcomes.parquet"))
        return {
            TASK: task,
            PLACES: places,
            HEADS: pl.concat([heads, heads_table(received, bootstrap, _LAST)]),
            ATTENDING: attending_table(received, bootstrap),
            SCREEN: _estimates(run, folder, options, places, heads),
            CUTS: cuts_table(outcomes, bootstrap),
        }

    def runs(self, subject: FinishedRun, folder: RunFolder) -> Sequence[Path]:
        inner = [folder.path / name for name in (_TASK_RUN, _MOVERS_RUN, _SCREEN_RUN)]
        return [subject.folder.path, *(run for run in inner if run.is_dir())]

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        facts, heads = facts_of(run.study), tables[HEADS]
        movers = movers_of(heads, self.movers)
        summary = {
            "version": 1,
            "model": short_name(run.spec.model.name),
            "layers": facts.layers,
            "heads_of_a_layer": facts.heads,
            "queries": int(heads["n"].max() or 0),  # type: ignore[arg-type]
            "level": run.spec.statistics.level,
            "movers": [list(head) for head in movers],
            "others": [list(head) for head in other_heads(movers, facts, run.spec.prompts.seed)],
            "task": tables[TASK].to_dicts(),
            "places": tables[PLACES].to_dicts(),
            "heads": heads.to_dicts(),
            "attending": tables[ATTENDING].to_dicts(),
            "screen": screened(tables[SCREEN]),
            "cuts": tables[CUTS].to_dicts(),
        }
        return without_nan(summary)

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiments.ioi.figures import drawings

        return drawings(summary, tables[PLACES], tables[HEADS], tables[SCREEN], tables[CUTS])


def _run(study: Study, out: Path, options: Options) -> RunFolder:
    return RunFolder(run_study(study, replace(options, out=out)), study.digest)


def _estimates(
    run: FinishedRun, folder: RunFolder, options: Options, places: pl.DataFrame, heads: pl.DataFrame
) -> pl.DataFrame:
    """SCREEN_TABLE, empty where the other runs are a host's: a host does not screen."""
    if options.remote is not None:
        return pl.DataFrame(schema=SCREEN_TABLE)
    last = _run(screened_study(run.study), folder.path / _SCREEN_RUN, options)
    return screen_table(last.read_table("screen.parquet"), places, heads)


def _templates(run: FinishedRun) -> Sequence[str]:
    own = build_family(run.spec.tasks, embedded=False).describe()["templates"]
    return own or TEMPLATES
