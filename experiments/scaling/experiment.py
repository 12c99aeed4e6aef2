"""CD, accuracy and effect against the size of models, by both counts of it, from finished runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import linregress

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.experiment.emergence import rank_correlation
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiment.revisions import from_here
from patchboard.experiment.sizes import ACCURACY, ComparableRun, check_alike, models_of, read_comparable, size_table
from patchboard.experiments.scaling import findings
from patchboard.measure.summary import without_nan
from patchboard.report.drawing import Drawing
from patchboard.spec import Study, study_of
from patchboard.spec.sections import EMBEDDED
from patchboard.store.folder import RunFolder

COUNTS = ("parameters", "non_embedding")
FEWEST = 3
"""Models of which an exponent is told: a line goes through any two."""
_SOURCES = ("summary.json", "decodability.parquet", "manifest.json")


@dataclass(frozen=True)
class Scaling(StudyExperiment):
    """siblings: folder of the embedded model's smaller siblings, swept with it where a study has that one model.

    others: folders of finished runs that are compared with the run, each of the same study on other models.
    """

    siblings: Path
    others: Sequence[Path] = ()
    title = "CD, accuracy and effect against size"
    prose = findings
    tables = ("sized.parquet",)

    def prepare(self, study: Study) -> Study:
        """The study over several models. Raises SpecError where it has one other model, or sweeps anything else."""
        if "model.name" not in study.axes and "model.revision" not in study.axes:
            study = with_siblings(study, self.siblings)
        for path in study.axes:
            if not path.startswith("model."):
                raise SpecError(path, "is swept, expected models alone", "run each value, and compare the runs")
        if study.points[0].spec.decodability is None:
            raise SpecError("decodability", "is null, expected a section", "give k, prompts and shots")
        return study

    def compare(self, folders: Sequence[Path], options: Options) -> Path:
        """Write a folder of its own about finished runs; returns it. Raises RunFolderError."""
        runs = [read_comparable(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
        check_alike(runs)
        contents = hashlib.sha256()
        for each in sorted(runs, key=lambda each: str(each.run.manifest["digest"])):
            for name in _SOURCES:
                contents.update((each.run.folder / name).read_bytes())
        digest, (first, *others) = contents.hexdigest(), [each.run.folder for each in runs]
        place = options.out or Path("runs") / f"scaling-{digest[:8]}"
        run = FinishedRun(runs[0].study, RunFolder(first, runs[0].study.digest))
        return replace(self, others=others).complete(place, digest, run, options)

    def _runs(self, run: FinishedRun) -> list[ComparableRun]:
        return [read_comparable(folder) for folder in (run.folder.path, *self.others)]

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        runs = self._runs(run)
        check_alike(runs)
        return {"sized.parquet": size_table(runs)}

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        runs, spec, table = self._runs(run), run.spec, tables["sized.parquet"]
        own = table.filter(pl.col("control") == "")
        summary = {
            "version": 1,
            "family": spec.tasks.family,
            "tasks": runs[0].run.manifest["tasks"][0],
            "level": spec.statistics.level,
            "metric": spec.metrics[0],
            "chance": runs[0].run.decodability["chance"][0],
            "models": sum(len(models_of(each.study)) for each in runs),
            "sized": table.to_dicts(),
            "with_size": [
                {
                    "measure": measure,
                    "shots": shots,
                    "count": count,
                    **rank_correlation(part[count].to_list(), part["value"].to_list()),
                }
                for (measure, shots), part in own.group_by("measure", "shots", maintain_order=True)
                for count in COUNTS
            ],
            "exponents": {count: exponent(own.filter(pl.col("measure") == ACCURACY), count) for count in COUNTS},
        }
        return without_nan(summary)

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiments.scaling.figures import drawings

        return drawings(summary, tables["sized.parquet"])

    def spec_text(self, run: FinishedRun) -> str:
        return "\n".join(each.run.spec_text for each in self._runs(run))


def with_siblings(study: Study, siblings: Path) -> Study:
    """The embedded model's study, swept over its smaller siblings and it. Raises SpecError for another model."""
    model = study.tree["model"]
    if model["name"] != EMBEDDED:
        what = f"'{model['name']}' is one model, expected several"
        raise SpecError("model.name", what, "write {sweep: [A, B]}, or give finished runs: scaling.py RUN_DIR…")
    names = sorted(str(each) for each in from_here(siblings).glob("*/") if (each / "config.json").is_file())
    if not names:
        raise SpecError("model.name", f"no models in {from_here(siblings)}", "write model.name: {sweep: [A, B]}")
    dtype = "float32" if model["dtype"] == "auto" else model["dtype"]  # as the embedded model has
    return study_of({**study.tree, "model": {**model, "name": {"sweep": [*names, EMBEDDED]}, "dtype": dtype}})


def exponent(accuracy: pl.DataFrame, count: str) -> dict[str, Any] | None:
    """a of the error rate ~ N^-a: least squares of log(1 - accuracy) on log N, models without an error left out.

    Returns exponent, its standard error, r2 and n; None with fewer than FEWEST models or one size.
    """
    known = accuracy.filter(pl.col("value") < 1)
    x, y = np.log(known[count].to_numpy()), np.log(1 - known["value"].to_numpy())
    if len(x) < FEWEST or np.ptp(x) == 0:
        return None
    line: Any = linregress(x, y)  # a named tuple that its stubs do not tell
    return {
        "exponent": -float(line.slope), "stderr": float(line.stderr), "intercept": float(line.intercept),
        "r2": float(line.rvalue) ** 2 if np.ptp(y) > 0 else None, "n": len(x),
    }  # fmt: skip
