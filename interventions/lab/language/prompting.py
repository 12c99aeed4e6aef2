"""The concept stated in the prompt: the same rows under several prefixes, those with {task} against the one without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.lab.beside import short_name
from patchboard.lab.language import EXAMINED
from patchboard.lab.language.conditions import Comparison, Condition, check_comparable, compared
from patchboard.spec import Study
from patchboard.store.folder import RunFolder, open_run

PREFIX = "prompts.template.prefix"
STATES = "{task}"
UNSTATED = "unstated"


def stated_and_not(study: Study) -> Study:
    """The study itself. Raises SpecError unless it sweeps prefixes of which all but one hold {task}."""
    prefixes = study.axes.get(PREFIX, [])
    plain = [prefix for prefix in prefixes if STATES not in prefix]
    if len(prefixes) < 2 or len(plain) != 1:
        what = f"sweeps {len(prefixes)} prefixes of which {len(plain)} lack {STATES}, expected two or more and one"
        raise SpecError(PREFIX, what, f'write {{sweep: ["", "{STATES}\\n"]}}')
    check_comparable(study, PREFIX)
    return study


def condition_of(prefix: str) -> str:
    """``unstated``, or ``stated: {task}\\n`` in one line."""
    return f"stated: {json.dumps(prefix, ensure_ascii=False)[1:-1]}" if STATES in prefix else UNSTATED


def examine(study: Study, run: Path, options: Options) -> Path:
    """Write the experiment's folder inside the finished run's, from its tables alone; returns it."""
    with open_run(run / EXAMINED, study.digest, options.fresh) as folder:
        if folder.finished and not folder.unsound(["compared.parquet", "summary.json", "report.html"]):
            return folder.path
        conditions = conditions_in(study, RunFolder(run, study.digest))
        comparison = compared(conditions, bootstrap_of(study))
        folder.write_table("compared.parquet", comparison.table)
        summary = _summary(study, comparison)
        folder.write_json("summary.json", summary)
        _report(folder.path, run, summary, conditions)
        folder.update_manifest(status="finished")
        return folder.path


def conditions_in(study: Study, run: RunFolder) -> list[Condition]:
    """A condition for each prefix, the unstated one first."""
    outcomes, decodability = run.scan_table("outcomes.parquet"), run.read_table("decodability.parquet")
    mine = pl.col(PREFIX)
    return [
        Condition(condition_of(prefix), outcomes.filter(mine == prefix), decodability.filter(mine == prefix))
        for prefix in sorted(study.axes[PREFIX], key=lambda prefix: STATES in prefix)
    ]


def _summary(study: Study, comparison: Comparison) -> dict[str, Any]:
    spec = study.points[0].spec
    return {
        "version": 1,
        "model": short_name(spec.model.name),
        "family": spec.tasks.family,
        "level": spec.statistics.level,
        **comparison.summary(),
    }


def _report(folder: Path, run: Path, summary: dict[str, Any], conditions: list[Condition]) -> None:
    # matplotlib takes a second to load
    from patchboard.experiment.page import Page, write_page
    from patchboard.lab.language.conditions_figures import drawings
    from patchboard.lab.language.conditions_findings import overview
    from patchboard.lab.language.prompting_findings import findings, introduction

    text = (run / "spec.yaml").read_text(encoding="utf-8")
    page = Page(
        "The concept stated in the prompt",
        introduction(summary),
        findings(summary),
        overview(summary),
        text,
        drawings(summary, conditions),
    )
    write_page(folder, page)
