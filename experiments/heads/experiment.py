"""Heads by their causal effect, then a second run with the function vectors of the best ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.execution.run import run_study
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiment.models_beside import short_name
from patchboard.experiments.heads import findings
from patchboard.experiments.heads.vectors import check_heads, conditions, unranked_study, vector_study
from patchboard.measure.head_effects import HEADS, head_effects
from patchboard.measure.outcome_index import index_outcomes
from patchboard.report.drawing import Drawing
from patchboard.spec import Study
from patchboard.store import EXAMINED
from patchboard.store.folder import RunFolder


@dataclass(frozen=True)
class Heads(StudyExperiment):
    """top: sizes of the function vectors, in heads, ascending. The first run serves all sizes."""

    top: Sequence[int] = (1, 2, 4, 8)
    title = "Heads and function vectors"
    prose = findings
    tables = ("heads.parquet", "vectors.parquet", "logprobs.parquet")

    @property
    def variant(self) -> dict[str, Any]:
        return {"top": list(self.top)}

    def prepare(self, study: Study) -> Study:
        check_heads(study, self.top)
        return study

    def following(self, study: Study) -> list[Study]:
        return [unranked_study(study, self.top)]

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        outcomes = index_outcomes(run.folder.scan_table("outcomes.parquet"))
        effects = head_effects(outcomes, run.spec.metrics[0], run.bootstrap)
        second = vector_study(run.study, effects, self.top)
        second_run = RunFolder(run_study(second, replace(options, out=folder.path / EXAMINED)), second.digest)
        measured = second_run.scan_table("outcomes.parquet"), self.top, bootstrap_of(second)
        vectors, logprobs = conditions(*measured), conditions(*measured, "logprob")
        return {"heads.parquet": effects, "vectors.parquet": vectors, "logprobs.parquet": logprobs}

    def runs(self, subject: FinishedRun, folder: RunFolder) -> Sequence[Path]:
        return [subject.folder.path, folder.path / EXAMINED]

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        spec, effects = run.spec, tables["heads.parquet"]
        vector = spec.interventions[HEADS].vector
        assert vector is not None, "refused by prepare"
        of_metric = effects.filter(pl.col("metric") == spec.metrics[0])
        best = effects.filter(pl.col("rank") <= max(self.top)).with_columns(pl.col(pl.Float64).fill_nan(None))
        return {
            "version": 1,
            "model": short_name(spec.model.name),
            "family": spec.tasks.family,
            "level": spec.statistics.level,
            "metric": spec.metrics[0],
            "shots": spec.prompts.shots,  # 0, or with labels shuffled
            "fit_shots": vector.shots,
            "fit_prompts": vector.prompts,
            "top": list(self.top),
            "patched": of_metric.height,
            "above_zero": of_metric.filter(pl.col("ci_low") > 0).height,
            "random_above_zero": of_metric.filter(pl.col("random_low") > 0).height,
            "heads": best.to_dicts(),
            "vectors": tables["vectors.parquet"].to_dicts(),
            "logprobs": tables["logprobs.parquet"].to_dicts(),  # where accuracy is 0 with any vector, this still moves
        }

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiments.heads.figures import drawings

        return drawings(summary, tables["heads.parquet"])
