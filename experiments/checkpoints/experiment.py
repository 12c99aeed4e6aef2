"""CD, accuracy and effect over the checkpoints of one training: a run with the model swept, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.execution.options import Options
from patchboard.experiment.emergence import cd_and_accuracy, effects_at, half_risen, rank_correlation
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiment.revisions import listed_of
from patchboard.experiments.checkpoints import findings
from patchboard.experiments.checkpoints.study import checkpoints_of, swept_over
from patchboard.measure.decodability import ALL
from patchboard.measure.replicates import layer_by_cd
from patchboard.measure.summary import without_nan
from patchboard.report.drawing import Drawing
from patchboard.spec import Study
from patchboard.store.folder import RunFolder
from patchboard.tasks.base import NULL

LEARNED, CAUSED = "learned.parquet", "caused.parquet"
"""CD and accuracy over training; effects over training."""


@dataclass(frozen=True)
class Checkpoints(StudyExperiment):
    """embedded: folder of the embedded model's checkpoints. folders, revisions: patterns of names, one at most."""

    embedded: Path
    folders: str | None = None
    revisions: str | None = None
    title = "CD, accuracy and effect over training"
    prose = findings
    tables = (LEARNED, CAUSED)

    def prepare(self, study: Study) -> Study:
        return swept_over(study, self.embedded, self.folders, self.revisions)

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        checkpoints, (axis,), shots = checkpoints_of(run.study), run.study.axes, most_shots(run)
        decodability = cd_by_layer(run)
        curves = run.folder.read_table("curves.parquet")
        last = decodability.filter(pl.col(axis) == checkpoints[-1].name)
        layer = layer_by_cd(last, _edited(curves) or last["layer"].unique().to_list(), shots)
        effects, metric = run.folder.read_table("effects.parquet"), run.spec.metrics[0]
        return {
            LEARNED: cd_and_accuracy(decodability, checkpoints, axis, layer, run.bootstrap),
            CAUSED: effects_at(effects, curves, checkpoints, axis, layer, metric),
        }

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        spec, scores, effects = run.spec, tables[LEARNED], tables[CAUSED]
        overall = scores.filter(pl.col("task") == ALL)
        series = {task: _series(task, scores, effects) for task in scores["task"].unique(maintain_order=True)}
        steps = overall["step"].to_list()
        summary = {
            "version": 1,
            "axis": next(iter(run.study.axes)),
            "checkpoints": overall["checkpoint"].to_list(),
            "steps": steps,
            "family": spec.tasks.family,
            "level": spec.statistics.level,
            "k": spec.decodability.k if spec.decodability else None,
            "shots": most_shots(run),
            "edited_shots": spec.prompts.shots,
            "layer": overall["layer"][0],
            "metric": spec.metrics[0],
            "interventions": effects["intervention"].unique(maintain_order=True).to_list(),
            "chance": overall["chance"][0],
            "learned": scores.to_dicts(),
            "caused": effects.to_dicts(),
            "over_tasks": _over_tasks(scores),
            "half_risen": {
                task: {what: half_risen(steps, rows) for what, rows in of.items()} for task, of in series.items()
            },
            "with_cd": {
                what: rank_correlation([v for v, *_ in series[ALL]["cd"]], [v for v, *_ in rows])
                for what, rows in series[ALL].items() if what != "cd"
            },
            "unreached": listed_of(spec.model.name).unreached if self.revisions else "",
        }  # fmt: skip
        return without_nan(summary)

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiments.checkpoints.figures import drawings

        (axis,) = run.study.axes
        steps = {each.name: each.step for each in checkpoints_of(run.study)}
        overall = cd_by_layer(run).filter(pl.col("task") == ALL)
        by_layer = overall.with_columns(step=pl.col(axis).replace_strict(steps)).sort("step", "layer")
        return drawings(summary, tables[LEARNED], tables[CAUSED], by_layer)


def most_shots(run: FinishedRun) -> int:
    assert run.spec.decodability is not None, "refused by prepare"
    return max(run.spec.decodability.shots)


def cd_by_layer(run: FinishedRun) -> pl.DataFrame:
    """The run's DECODABILITY at the most shots."""
    return run.folder.read_table("decodability.parquet").filter(pl.col("shots") == most_shots(run))


def _edited(curves: pl.DataFrame) -> list[int]:
    """Layers that every intervention edits; none without interventions."""
    parts = curves.filter(pl.col("control") == "").partition_by("intervention")
    return sorted(set.intersection(*({*part["layer"]} for part in parts))) if parts else []


def _series(task: str, scores: pl.DataFrame, effects: pl.DataFrame) -> dict[str, list[tuple[float, float, float]]]:
    """cd, accuracy and each intervention's effect on a task: (value, low, high) a step; Null has CD alone."""
    rows = scores.filter(pl.col("task") == task)
    series = {"cd": rows.select("cd", "cd_low", "cd_high").rows()}
    if task == NULL:
        return series
    series["accuracy"] = rows.select("accuracy", "accuracy_low", "accuracy_high").rows()
    own = effects.filter(pl.col("task") == task, pl.col("control") == "")
    for (name,), part in own.group_by("intervention", maintain_order=True):
        series[str(name)] = part.select("effect", "ci_low", "ci_high").rows()
    return series


def _over_tasks(scores: pl.DataFrame) -> list[dict[str, Any]]:
    """Mean and standard deviation (ddof 1, the paper's band) over tasks, Null left out, a row a step."""
    tasks = scores.filter(~pl.col("task").is_in([ALL, NULL])).group_by("step", maintain_order=True)
    columns = ("cd", "accuracy")
    means = [pl.col(column).mean().alias(f"{column}_mean") for column in columns]
    return tasks.agg(*means, *(pl.col(column).std().alias(f"{column}_sd") for column in columns)).to_dicts()
