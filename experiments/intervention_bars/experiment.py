"""Positive and negative interventions with replicates, controls, and every task's mean on every task."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import polars as pl

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiments.intervention_bars import findings
from patchboard.measure.replicates import BARS, CHOSEN, MATRIX, SOURCE, bars, layer_by_cd, layer_by_effect, matrix
from patchboard.report.drawing import Drawing
from patchboard.spec import Study, study_of
from patchboard.spec.sections import EMBEDDED
from patchboard.store.folder import RunFolder
from patchboard.tasks.base import NULL
from patchboard.tasks.resolve import build_family

AXES = ("prompts.shots", "prompts.seed")


class InterventionBars(StudyExperiment):
    title = "Interventions by task"
    prose = findings
    tables = ("bars.parquet", "matrix.parquet")

    def prepare(self, study: Study) -> Study:
        """The study with an intervention more for each task: ``positive``, with that task's mean on every task's
        prompts.

        Raises SpecError where it lacks ``positive`` (mean of same_task), ``negative`` (of null_task) or CD, or sweeps
        anything but shots and seeds.
        """
        for path in study.axes:
            if path not in AXES:
                raise SpecError(path, f"is swept, expected sweeps of {' and '.join(AXES)} alone", "run each value")
        spec = study.points[0].spec
        if spec.decodability is None:
            raise SpecError("decodability", "is null, expected a section: the layer is chosen by CD", "give it")
        for name, mean in (("positive", "same_task"), ("negative", "null_task")):
            section = spec.interventions.get(name)
            if section is None or section.vector is None or section.vector.mean != mean:
                where = f"interventions.{name}"
                raise SpecError(where, f"is not there with a vector of {mean}", f"write vector: {{mean: {mean}}}")
        return with_sources(study)

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        outcomes = run.folder.scan_table("outcomes.parquet")
        choices = list(choose_layers(outcomes, run.folder.read_table("decodability.parquet")))
        measures = {"bars.parquet": (bars, BARS), "matrix.parquet": (matrix, MATRIX)}
        return {
            name: pl.concat(
                measure(rows, layer, run.bootstrap).select(
                    pl.lit(by).alias("chosen_by"), pl.lit(layer).alias("layer"), pl.all()
                )
                for by, layer, rows in choices
            ).cast(columns)  # type: ignore[arg-type]
            for name, (measure, columns) in measures.items()
        }

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        return {
            "version": 1,
            "model": run.spec.model.name,
            "family": run.spec.tasks.family,
            "op": run.spec.interventions["positive"].op,
            "level": run.spec.statistics.level,
            "layers": dict(tables["bars.parquet"].select(list(CHOSEN)).unique(maintain_order=True).iter_rows()),
            "bars": tables["bars.parquet"].to_dicts(),
            "matrix": tables["matrix.parquet"].to_dicts(),
        }

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiments.intervention_bars.figures import drawings

        return drawings(tables["bars.parquet"], tables["matrix.parquet"])


def with_sources(study: Study) -> Study:
    """The study with ``from-TASK`` for each task. Raises SpecError where two tasks' names cannot be told apart."""
    spec, interventions = study.points[0].spec, study.tree["interventions"]
    positive = interventions["positive"]
    family = build_family(spec.tasks, embedded=spec.model.name == EMBEDDED)
    tasks = [task for task in family.tasks if task != NULL]
    sources = {
        SOURCE + re.sub(r"[^A-Za-z0-9_-]", "_", task): {**positive, "vector": {**positive["vector"], "mean": task}}
        for task in tasks
    }
    if len(sources) < len(tasks):
        raise SpecError("tasks", "has names that differ only in signs other than letters and digits", "rename one")
    return study_of({**study.tree, "interventions": {**interventions, **sources}})


def choose_layers(outcomes: pl.LazyFrame, decodability: pl.DataFrame) -> Iterator[tuple[str, int, pl.LazyFrame]]:
    """(chosen by, layer, the outcomes to measure there): CD chooses without looking at effects, so all of them; the
    effect chooses on even queries and is measured on odd ones."""
    positive = outcomes.filter(pl.col("intervention") == "positive")
    edited = positive.select(pl.col("layer").unique()).collect()["layer"].to_list()
    most = decodability["shots"].max()
    assert isinstance(most, int), "a decodability table has rows"
    yield "cd", layer_by_cd(decodability, edited, most), outcomes
    fewest = positive.select(pl.col("shots").min()).collect().item()
    even = pl.col("query") % 2 == 0
    yield "effect", layer_by_effect(outcomes.filter(even), fewest), outcomes.filter(~even)
