"""Relative change of the logit difference by each head's direct path to the logits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from patchboard.engine.load import open_model
from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.experiment.frame import FinishedRun, StudyExperiment, Summary, Tables
from patchboard.experiment.models_beside import short_name
from patchboard.experiments.ioi_published import findings
from patchboard.experiments.ioi_published.findings import CLEAN, PUBLISHED
from patchboard.measure.statistics import Bootstrap, drawn, interval, quantiles
from patchboard.measure.summary import without_nan
from patchboard.report.drawing import Drawing
from patchboard.spec import Study
from patchboard.store.folder import RunFolder

TABLE, NAME, METRIC = "direct.parquet", "to_logits", "logit_difference"

DIRECT = {
    "layer": pl.Int32(),
    "head": pl.Int32(),
    "relative": pl.Float64(),  # mean change of the logit difference / its mean without an edit
    "ci_low": pl.Float64(),  # bootstrap over queries, of both means together
    "ci_high": pl.Float64(),
    "effect": pl.Float64(),  # mean change, in logits
    "n": pl.Int32(),
    "published": pl.Float64(),  # of GPT-2 small; null where the paper tells none, or the model is another
}


class Published(StudyExperiment):
    title = "IOI: direct effects of heads, beside the published ones"
    prose = findings
    tables = (TABLE,)

    def prepare(self, study: Study) -> Study:
        """Raises SpecError unless the study is of ioi, patches paths from heads to the logits, and sweeps nothing."""
        for path in study.axes:
            raise SpecError(path, "is swept, expected one setting", "run the script for each value")
        spec = study.points[0].spec
        if spec.tasks.family != "ioi":
            raise SpecError("tasks.family", f"is {spec.tasks.family}, expected ioi", "leave it out")
        section = spec.interventions.get(NAME)
        if section is None or section.sender is None or section.sender.site != "head" or section.receivers is not None:
            what = "is not there as paths from heads to the logits"
            raise SpecError(f"interventions.{NAME}", what, "write {op: path, source: abc, sender: {site: head}}")
        if METRIC not in spec.metrics:
            raise SpecError("metrics", f"lacks {METRIC}, of which the change is told", "add it")
        return study

    def compute(self, run: FinishedRun, folder: RunFolder, options: Options) -> Tables:
        here = pl.col("intervention") == NAME, pl.col("control") == "", pl.col("metric") == METRIC
        rows = run.folder.scan_table("outcomes.parquet").filter(*here, pl.col("clean").is_not_nan()).collect()
        known = PUBLISHED if _is_gpt2_small(run.study) else {}
        return {TABLE: direct_effects(rows, known, run.bootstrap)}

    def summarise(self, run: FinishedRun, tables: Tables) -> dict[str, Any]:
        facts, source = open_model(run.spec.model)[1], run.spec.interventions[NAME].source
        assert source is not None, "validation: path needs one"
        summary = {
            "version": 1,
            "model": short_name(run.spec.model.name),
            "source": source.name,
            "level": run.spec.statistics.level,
            "published_clean": CLEAN if _is_gpt2_small(run.study) else None,
            "layers": facts.layers,
            "heads": tables[TABLE].to_dicts(),
            **_clean(run),
        }
        return without_nan(summary)

    def drawings(self, run: FinishedRun, tables: Tables, summary: Summary) -> Iterator[Drawing]:
        from patchboard.experiments.ioi_published.figures import drawings

        return drawings(summary, tables[TABLE])


def direct_effects(rows: pl.DataFrame, published: dict[tuple[int, int], float], bootstrap: Bootstrap) -> pl.DataFrame:
    """DIRECT, largest size first. rows: outcomes of the paths from each head, one metric, nobody excluded."""
    table = []
    for (layer, head), of_head in rows.group_by("layer", "head", maintain_order=True):
        values = of_head.sort("query").select("clean", "patched").to_numpy()
        clean, effect = values[:, 0], values[:, 1] - values[:, 0]
        low, high = ratio_interval(effect, clean, bootstrap)
        told = published.get((int(layer), int(head)))  # type: ignore[call-overload]
        table.append((layer, head, effect.mean() / clean.mean(), low, high, effect.mean(), len(values), told))
    return pl.DataFrame(table, schema=DIRECT, orient="row").sort(pl.col("relative").abs(), descending=True)


def ratio_interval(above: np.ndarray, below: np.ndarray, bootstrap: Bootstrap) -> tuple[float, float]:
    """Percentile bootstrap interval of mean(above) / mean(below), both [rows] resampled together."""
    parts = [
        (counts.astype(float) @ above) / (counts.astype(float) @ below)
        for _, counts in drawn("", len(above), bootstrap)
    ]
    low, high = quantiles(np.concatenate(parts)[None], bootstrap.level)
    return float(low[0]), float(high[0])


def _clean(run: FinishedRun) -> dict[str, Any]:
    """The logit difference without an edit, with its interval, and what share of the sentences has it above 0."""
    one = run.folder.scan_table("outcomes.parquet").filter(pl.col("metric") == METRIC, pl.col("clean").is_not_nan())
    values = one.collect().unique("query", keep="first").sort("query")["clean"].to_numpy()
    low, high = interval(values[:, None], run.bootstrap)
    known = {"clean": values.mean(), "clean_low": low[0], "clean_high": high[0], "preferred": (values > 0).mean()}
    return {**{name: float(value) for name, value in known.items()}, "n": len(values)}


def _is_gpt2_small(study: Study) -> bool:
    """Whether the published numbers may be of this model: by its configuration, since folders have any name."""
    facts = open_model(study.points[0].spec.model)[1]
    return (facts.family, facts.layers, facts.heads, facts.width) == ("gpt2", 12, 12, 768)
