"""Concept Decodability beyond a run's own table: pairs of tasks, the choice of a layer, the states in two axes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiment.projection import Method, check_method, projected
from patchboard.experiment.states import States, states_of
from patchboard.experiments.decodability import findings
from patchboard.measure.decodability import ALL, check_k, label_codes
from patchboard.measure.floors import floors_in
from patchboard.measure.nearest import voted
from patchboard.measure.pairs import Choice, choose, pairwise
from patchboard.measure.statistics import Bootstrap
from patchboard.report.drawing import Drawing
from patchboard.spec import Study
from patchboard.store.folder import RunFolder
from patchboard.store.schema import FLOORS

CHOICE, PAIRS, PROJECTION = "choice.parquet", "pairs.parquet", "projection.parquet"


@dataclass(frozen=True)
class Decodability(StudyExperiment):
    """projection: how the states are placed in two dimensions."""

    projection: Method = "pca"
    title = "Concept Decodability"
    prose = findings
    tables = (CHOICE, PAIRS, PROJECTION)

    @property
    def variant(self) -> dict[str, Any]:
        return {"projection": self.projection}

    def prepare(self, study: Study) -> Study:
        """The study itself. Raises SpecError where it has no CD, or sweeps: one set of states is what is examined."""
        if study.axes:
            raise SpecError(next(iter(study.axes)), "is swept, expected one setting", "run the script for each value")
        section = study.points[0].spec.decodability
        if section is None:
            raise SpecError("decodability", "is null, expected a section", "give k, prompts and shots")
        check_k(section.k, 2 * section.prompts)  # of a pair of tasks
        check_method(self.projection, section.prompts)
        return study

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        section, shots, bootstrap = run.spec.decodability, compared_shots(run), run.bootstrap
        assert section is not None, "refused by prepare"
        with states_of(run.study, folder.path / "parts", options.device, options.tick) as states:
            choice = _choice(states, shots, section.k, bootstrap)
            return {
                CHOICE: pl.DataFrame([asdict(choice)]),
                PAIRS: pairwise(states.at(choice.layer, shots), states.labels, section.k, bootstrap),
                PROJECTION: projected(states, choice.layer, self.projection, bootstrap.seed),
            }

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        """Accuracy is null where a label has none (Null)."""
        table, shots = run.folder.read_table("decodability.parquet"), compared_shots(run)
        choice = tables[CHOICE].row(0, named=True)
        overall = table.filter(pl.col("task") == ALL)
        best = overall.sort("cd", "layer", descending=[True, False]).unique("shots", keep="first", maintain_order=True)
        chosen = table.filter(pl.col("layer") == choice["layer"], pl.col("shots") == shots, pl.col("task") != ALL)
        columns = ["task", "shots", "layer", "n", "cd", "ci_low", "ci_high", "chance", "accuracy"]
        columns += [column for column in FLOORS if column in table.columns]
        at_shots = overall.filter(pl.col("shots") == shots)
        return {
            "version": 1,
            "model": run.spec.model.name,
            "family": run.spec.tasks.family,
            "layers": overall["layer"].n_unique(),
            "k": table["k"][0],
            "level": run.spec.statistics.level,
            "shots": shots,
            "chance": table["chance"][0],
            "choice": choice,
            "by_shots": _plain(best.sort("shots").select(columns)),
            "by_task": _plain(chosen.select(columns)),
            **_floors(at_shots.select(columns), choice["layer"]),
            "pairs": _plain(tables[PAIRS].sort("cd")),
        }

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiments.decodability.figures import drawings

        return drawings(summary, run.folder.read_table("decodability.parquet"), tables[PAIRS], tables[PROJECTION])


def compared_shots(run: FinishedRun) -> int:
    """Of pairs and the layer: ``prompts.shots`` where CD is measured there, else the most that it is measured at."""
    assert run.spec.decodability is not None, "refused by prepare"
    measured = run.spec.decodability.shots
    return run.spec.prompts.shots if run.spec.prompts.shots in measured else max(measured)


def _floors(overall: pl.DataFrame, layer: int) -> dict[str, Any]:
    """``floors``: CD of all labels beside them, at the chosen layer and where it is highest above the twin's."""
    floors = floors_in(overall)
    if not floors:
        return {}
    above = overall.sort("above_twin", "layer", descending=[True, False]).head(1) if "twin" in floors else None
    chosen = _plain(overall.filter(pl.col("layer") == layer))[0]
    return {"floors": {"chosen": chosen, "highest": _plain(above)[0] if above is not None else None}}


def _choice(states: States, shots: int, k: int, bootstrap: Bootstrap) -> Choice:
    codes = label_codes(states.labels)
    own = torch.from_numpy(codes)
    right = np.stack([voted(states.at(layer, shots), own, k).numpy() == codes for layer in range(states.layers)])
    return choose(right, states.labels, bootstrap)


def _plain(table: pl.DataFrame) -> list[dict[str, Any]]:
    return table.with_columns(pl.col(pl.Float64).fill_nan(None)).to_dicts()
