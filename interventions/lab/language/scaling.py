"""CD, accuracy and effect against the size of models, by both counts of it, from finished runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import linregress

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.lab.language import EXAMINED
from patchboard.lab.language.emergence import together
from patchboard.lab.language.revisions import from_here
from patchboard.lab.language.sizes import ACCURACY, Finished, check_alike, finished, models_of, sized
from patchboard.measure.summary import without_nan
from patchboard.plan.validate import EMBEDDED
from patchboard.report.run_files import Run
from patchboard.spec import Study, study_of
from patchboard.store.folder import RunFolder, open_run

COUNTS = ("parameters", "non_embedding")
FEWEST = 3
"""Models of which an exponent is told: a line goes through any two."""
_SOURCES = ("summary.json", "decodability.parquet", "manifest.json")


def several(study: Study, own: Path) -> Study:
    """The study over several models. own: folder of the embedded model's smaller siblings, swept with it where the
    study has that one model. Raises SpecError where it has one other model, or sweeps anything else."""
    model = study.tree["model"]
    if "model.name" not in study.axes and "model.revision" not in study.axes:
        if model["name"] != EMBEDDED:
            what = f"'{model['name']}' is one model, expected several"
            raise SpecError("model.name", what, "write {sweep: [A, B]}, or give finished runs: scaling.py RUN_DIR…")
        found = sorted(str(each) for each in from_here(own).glob("*/") if (each / "config.json").is_file())
        if not found:
            raise SpecError("model.name", f"no models in {from_here(own)}", "write model.name: {sweep: [A, B]}")
        dtype = "float32" if model["dtype"] == "auto" else model["dtype"]  # as the embedded model has
        study = study_of({**study.tree, "model": {**model, "name": {"sweep": [*found, EMBEDDED]}, "dtype": dtype}})
    for path in study.axes:
        if not path.startswith("model."):
            raise SpecError(path, "is swept, expected models alone", "run each value, and compare the runs")
    if study.points[0].spec.decodability is None:
        raise SpecError("decodability", "is null, expected a section", "give k, prompts and shots")
    return study


def examine(study: Study, run: Path, options: Options) -> Path:
    """Write the experiment's folder inside the finished run's; returns it."""
    with open_run(run / EXAMINED, study.digest, options.fresh) as folder:
        return _written(folder, [finished(run)])


def compare(folders: Sequence[Path], out: Path | None, fresh: bool) -> Path:
    """Write a folder of its own about finished runs; returns it. Raises RunFolderError."""
    runs = [finished(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    check_alike(runs)
    told = hashlib.sha256()
    for each in sorted(runs, key=lambda each: str(each.run.manifest["digest"])):
        for name in _SOURCES:
            told.update((each.run.folder / name).read_bytes())
    with open_run(out or Path("runs") / f"scaling-{told.hexdigest()[:8]}", told.hexdigest(), fresh) as folder:
        return _written(folder, runs)


def _written(folder: RunFolder, runs: Sequence[Finished]) -> Path:
    if folder.finished and not folder.unsound(["sized.parquet", "summary.json", "report.html"]):
        return folder.path
    check_alike(runs)
    table = sized(runs)
    folder.write_table("sized.parquet", table)
    summary = summarised(table, runs)
    folder.write_json("summary.json", summary)
    _report(folder.path, [each.run for each in runs], summary, table)
    folder.update_manifest(status="finished")
    return folder.path


def summarised(table: pl.DataFrame, runs: Sequence[Finished]) -> dict[str, Any]:
    """What the findings are told from."""
    spec, tasks = runs[0].study.points[0].spec, runs[0].run.manifest["tasks"]
    own = table.filter(pl.col("control") == "")
    made = {
        "version": 1,
        "family": spec.tasks.family,
        "tasks": tasks[0],
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
                **together(part[count].to_list(), part["value"].to_list()),
            }
            for (measure, shots), part in own.group_by("measure", "shots", maintain_order=True)
            for count in COUNTS
        ],
        "exponents": {count: exponent(own.filter(pl.col("measure") == ACCURACY), count) for count in COUNTS},
    }
    return without_nan(made)


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


def _report(folder: Path, runs: Sequence[Run], summary: dict[str, Any], table: pl.DataFrame) -> None:
    # matplotlib takes a second to load
    from patchboard.experiment.page import Page, write_page
    from patchboard.lab.language.scaling_figures import drawings
    from patchboard.lab.language.scaling_findings import findings, introduction, overview

    page = Page(
        "CD, accuracy and effect against size", introduction(summary), findings(summary), overview(summary),
        "\n".join(run.spec_text for run in runs), drawings(summary, table),
    )  # fmt: skip
    write_page(folder, page)
