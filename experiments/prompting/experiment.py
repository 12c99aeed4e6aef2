"""The concept stated in the prompt: the same rows under several prefixes, those with {task} against the one without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.experiment.conditions import Condition, check_comparable, compare_conditions, summary_of_comparison
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiment.models_beside import short_name, with_models_beside
from patchboard.experiments.prompting import findings
from patchboard.report.drawing import Drawing
from patchboard.spec import Study
from patchboard.store.folder import RunFolder

PREFIX = "prompts.template.prefix"
STATES = "{task}"
UNSTATED = "unstated"


@dataclass(frozen=True)
class Prompting(StudyExperiment):
    """scripts: the folder of the script, whose models a spec may name from there."""

    scripts: Path
    title = "The concept stated in the prompt"
    prose = findings
    tables = ("compared.parquet",)

    def prepare(self, study: Study) -> Study:
        """Raises SpecError unless the study sweeps prefixes of which all but one hold {task}."""
        prefixes = study.axes.get(PREFIX, [])
        unstated = [prefix for prefix in prefixes if STATES not in prefix]
        if len(prefixes) < 2 or len(unstated) != 1:
            what = (
                f"sweeps {len(prefixes)} prefixes of which {len(unstated)} lack {STATES}, expected two or more and one"
            )
            raise SpecError(PREFIX, what, f'write {{sweep: ["", "{STATES}\\n"]}}')
        check_comparable(study, PREFIX)
        return with_models_beside(study, self.scripts)

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        return {"compared.parquet": compare_conditions(conditions_of(run), run.bootstrap)}

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        return {
            "version": 1,
            "model": short_name(run.spec.model.name),
            "family": run.spec.tasks.family,
            "level": run.spec.statistics.level,
            **summary_of_comparison(tables["compared.parquet"]),
        }

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiment.conditions_figures import drawings

        return drawings(summary, {each.name: each.decodability for each in conditions_of(run)})


def condition_name(prefix: str) -> str:
    """``unstated``, or ``stated: {task}\\n`` in one line."""
    return f"stated: {json.dumps(prefix, ensure_ascii=False)[1:-1]}" if STATES in prefix else UNSTATED


def conditions_of(run: FinishedRun) -> list[Condition]:
    """A condition for each prefix, the unstated one first."""
    outcomes, decodability = run.folder.scan_table("outcomes.parquet"), run.folder.read_table("decodability.parquet")
    return [
        Condition(
            condition_name(prefix), outcomes.filter(pl.col(PREFIX) == prefix),
            decodability.filter(pl.col(PREFIX) == prefix),
        )
        for prefix in sorted(run.study.axes[PREFIX], key=lambda prefix: STATES in prefix)
    ]  # fmt: skip
