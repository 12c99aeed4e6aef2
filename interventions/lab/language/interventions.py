"""Positive and negative interventions with replicates, controls, and every task's mean on every task."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.lab.language import EXAMINED
from patchboard.lab.language.replicates import (
    BARS,
    CHOSEN,
    MATRIX,
    SOURCE,
    bars,
    layer_by_cd,
    layer_by_effect,
    matrix,
)
from patchboard.plan.validate import EMBEDDED
from patchboard.spec import Study, study_of
from patchboard.store.folder import RunFolder, open_run
from patchboard.tasks.base import NULL
from patchboard.tasks.resolve import build_family

TABLES = {"bars.parquet": BARS, "matrix.parquet": MATRIX}
AXES = ("prompts.shots", "prompts.seed")


def with_sources(study: Study) -> Study:
    """The study with an intervention more for each task: ``positive``, with that task's mean on every task's prompts.

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
    tree = dict(study.tree)
    positive = tree["interventions"]["positive"]
    family = build_family(spec.tasks, embedded=spec.model.name == EMBEDDED)
    tasks = [task for task in family.tasks if task != NULL]
    sources = {
        SOURCE + re.sub(r"[^A-Za-z0-9_-]", "_", task): {**positive, "vector": {**positive["vector"], "mean": task}}
        for task in tasks
    }
    if len(sources) < len(tasks):
        raise SpecError("tasks", "has names that differ only in signs other than letters and digits", "rename one")
    return study_of({**tree, "interventions": {**tree["interventions"], **sources}})


def examine(study: Study, run: Path, options: Options) -> Path:
    """Write the experiment's folder inside the finished run's, from its outcomes alone; returns it."""
    with open_run(run / EXAMINED, study.digest, options.fresh) as folder:
        if folder.finished and not folder.unsound([*TABLES, "summary.json", "report.html"]):
            return folder.path
        tables = _tables(study, RunFolder(run, study.digest))
        for name, table in tables.items():
            folder.write_table(name, table)
        summary = _summary(study, tables)
        folder.write_json("summary.json", summary)
        _report(folder.path, run, summary, tables)
        folder.update_manifest(status="finished")
        return folder.path


def _tables(study: Study, run: RunFolder) -> dict[str, pl.DataFrame]:
    bootstrap = bootstrap_of(study)
    outcomes, decodability = run.scan_table("outcomes.parquet"), run.read_table("decodability.parquet")
    found: dict[str, list[pl.DataFrame]] = {name: [] for name in TABLES}
    for by, layer, rows in _choices(outcomes, decodability):
        chosen = pl.lit(by).alias("chosen_by"), pl.lit(layer).alias("layer")
        found["bars.parquet"].append(bars(rows, layer, bootstrap).select(*chosen, pl.all()))
        found["matrix.parquet"].append(matrix(rows, layer, bootstrap).select(*chosen, pl.all()))
    return {name: pl.concat(found[name]).cast(columns) for name, columns in TABLES.items()}  # type: ignore[arg-type]


def _choices(outcomes: pl.LazyFrame, decodability: pl.DataFrame) -> Iterator[tuple[str, int, pl.LazyFrame]]:
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


def _summary(study: Study, tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    spec = study.points[0].spec
    return {
        "version": 1,
        "model": spec.model.name,
        "family": spec.tasks.family,
        "op": spec.interventions["positive"].op,
        "level": spec.statistics.level,
        "layers": dict(tables["bars.parquet"].select(list(CHOSEN)).unique(maintain_order=True).iter_rows()),
        "bars": tables["bars.parquet"].to_dicts(),
        "matrix": tables["matrix.parquet"].to_dicts(),
    }


def _report(folder: Path, run: Path, summary: dict[str, Any], tables: dict[str, pl.DataFrame]) -> None:
    # matplotlib takes a second to load
    from patchboard.experiment.page import Page, write_page
    from patchboard.lab.language.interventions_figures import drawings
    from patchboard.lab.language.interventions_findings import findings, introduction, overview

    text = (run / "spec.yaml").read_text(encoding="utf-8")
    page = Page(
        "Interventions by task",
        introduction(summary),
        findings(summary),
        overview(summary),
        text,
        drawings(tables["bars.parquet"], tables["matrix.parquet"]),
    )
    write_page(folder, page)
