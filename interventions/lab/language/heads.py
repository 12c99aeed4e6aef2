"""Heads by their causal effect, then a second run with the function vectors of the best ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.execution.run import run_study
from patchboard.lab.beside import short_name
from patchboard.lab.language import EXAMINED
from patchboard.lab.language.head_effects import HEADS, head_effects
from patchboard.lab.language.head_vectors import conditions, vector_study
from patchboard.measure.scan import scanned
from patchboard.spec import Study
from patchboard.spec.digest import digest_of
from patchboard.store.folder import RunFolder, open_run, read_manifest

TABLES = ("heads.parquet", "vectors.parquet")


def examine(study: Study, run: Path, options: Options, top: Sequence[int]) -> Path:
    """Write the experiment's folder inside the finished run's, and the second run's inside that; returns the former.

    Another ``top`` has a folder of its own beside it: the first run serves all. Raises PatchboardError as a run does.
    """
    digest = digest_of({"study": study.digest, "top": list(top)})
    with open_run(_folder(run, digest, top), digest, options.fresh) as folder:
        if folder.finished and not folder.unsound([*TABLES, "summary.json", "report.html"]):
            return folder.path
        bootstrap, metric = bootstrap_of(study), study.points[0].spec.metrics[0]
        effects = head_effects(scanned(RunFolder(run, study.digest).scan_table("outcomes.parquet")), metric, bootstrap)
        folder.write_table("heads.parquet", effects)
        second = vector_study(study, effects, top)
        made = run_study(second, replace(options, out=folder.path / EXAMINED))
        outcomes = RunFolder(made, second.digest).scan_table("outcomes.parquet")
        vectors = conditions(outcomes, top, bootstrap_of(second))
        folder.write_table("vectors.parquet", vectors)
        summary = _summary(study, effects, vectors, top)
        folder.write_json("summary.json", summary)
        _report(folder.path, run, summary, effects)
        folder.update_manifest(status="finished")
        return folder.path


def _folder(run: Path, digest: str, top: Sequence[int]) -> Path:
    """``experiment`` for the sizes that were asked for first, ``experiment-top-1-5`` for others."""
    first = run / EXAMINED
    known = read_manifest(first).get("digest", digest)
    return first if known == digest else run / f"{EXAMINED}-top-{'-'.join(map(str, top))}"


def _summary(study: Study, effects: pl.DataFrame, vectors: pl.DataFrame, top: Sequence[int]) -> dict[str, Any]:
    spec = study.points[0].spec
    vector = spec.interventions[HEADS].vector
    assert vector is not None, "refused by suited()"
    of_metric = effects.filter(pl.col("metric") == spec.metrics[0])
    return {
        "version": 1,
        "model": short_name(spec.model.name),
        "family": spec.tasks.family,
        "level": spec.statistics.level,
        "metric": spec.metrics[0],
        "shots": spec.prompts.shots,  # 0, or with labels shuffled
        "fit_shots": vector.shots,
        "fit_prompts": vector.prompts,
        "top": list(top),
        "patched": of_metric.height,
        "above_zero": of_metric.filter(pl.col("ci_low") > 0).height,
        "random_above_zero": of_metric.filter(pl.col("random_low") > 0).height,
        "heads": effects.filter(pl.col("rank") <= max(top)).with_columns(pl.col(pl.Float64).fill_nan(None)).to_dicts(),
        "vectors": vectors.to_dicts(),
    }


def _report(folder: Path, run: Path, summary: dict[str, Any], effects: pl.DataFrame) -> None:
    # matplotlib takes a second to load
    from patchboard.experiment.page import Page, write_page
    from patchboard.lab.language.heads_figures import drawings
    from patchboard.lab.language.heads_findings import findings, introduction, overview

    text = (run / "spec.yaml").read_text(encoding="utf-8")
    page = Page(
        "Heads and function vectors",
        introduction(summary),
        findings(summary),
        overview(summary),
        text,
        drawings(summary, effects),
    )
    write_page(folder, page)
