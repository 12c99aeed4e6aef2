"""Concept Decodability beyond a run's own table: pairs of tasks, the choice of a layer, the states in two axes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from patchboard.errors import SpecError
from patchboard.execution.options import Options
from patchboard.execution.results import bootstrap_of
from patchboard.lab.language import EXAMINED
from patchboard.lab.language.pairs import Choice, choose, pairwise
from patchboard.lab.language.projection import Method, check_method, projected
from patchboard.lab.language.states import States, states_of
from patchboard.measure.decodability import ALL, check_k, label_codes
from patchboard.measure.nearest import voted
from patchboard.measure.statistics import Bootstrap
from patchboard.spec import Study
from patchboard.store.folder import open_run

TABLES = ("pairs.parquet", "projection.parquet")


def suited(study: Study, projection: Method = "pca") -> Study:
    """The study itself. Raises SpecError where it has no CD, or sweeps: one set of states is what is examined."""
    if study.axes:
        raise SpecError(next(iter(study.axes)), "is swept, expected one setting", "run the script for each value")
    section = study.points[0].spec.decodability
    if section is None:
        raise SpecError("decodability", "is null, expected a section", "give k, prompts and shots")
    check_k(section.k, 2 * section.prompts)  # of a pair of tasks
    check_method(projection, section.prompts)
    return study


def examine(study: Study, run: Path, options: Options, projection: Method = "pca") -> Path:
    """Write the experiment's folder inside the finished run's, unless it is there by this projection; returns it."""
    with open_run(run / EXAMINED, study.digest, options.fresh) as folder:
        sound = folder.finished and not folder.unsound([*TABLES, "summary.json", "report.html"])
        if sound and folder.manifest.get("projection") == projection:
            return folder.path
        folder.update_manifest(status="running", projection=projection)  # of another projection until all is written
        bootstrap, spec = bootstrap_of(study), study.points[0].spec
        assert spec.decodability is not None, "refused by suited()"
        table = pl.read_parquet(run / "decodability.parquet", glob=False)
        shots = _chosen_shots(spec.prompts.shots, spec.decodability.shots)
        with states_of(study, folder.path / "parts", options.device, options.tick) as states:
            choice = _choice(states, shots, spec.decodability.k, bootstrap)
            pairs = pairwise(states.at(choice.layer, shots), states.labels, spec.decodability.k, bootstrap)
            placed = projected(states, choice.layer, projection, bootstrap.seed)
        folder.write_table("pairs.parquet", pairs)
        folder.write_table("projection.parquet", placed)
        summary = _summary(study, table, pairs, choice, shots)
        folder.write_json("summary.json", summary)
        _report(folder.path, run, summary, table, pairs, placed)
        folder.update_manifest(status="finished")
        folder.drop_parts()
        return folder.path


def _chosen_shots(wanted: int, measured: list[int]) -> int:
    """``prompts.shots`` where CD is measured there, else the most that it is measured at."""
    return wanted if wanted in measured else max(measured)


def _choice(states: States, shots: int, k: int, bootstrap: Bootstrap) -> Choice:
    codes = label_codes(states.labels)
    own = torch.from_numpy(codes)
    right = np.stack([voted(states.at(layer, shots), own, k).numpy() == codes for layer in range(states.layers)])
    return choose(right, states.labels, bootstrap)


def _summary(study: Study, table: pl.DataFrame, pairs: pl.DataFrame, choice: Choice, shots: int) -> dict[str, Any]:
    """What the findings are told from; accuracy is null where a label has none (Null)."""
    overall = table.filter(pl.col("task") == ALL)
    best = overall.sort("cd", "layer", descending=[True, False]).unique("shots", keep="first", maintain_order=True)
    chosen = table.filter(pl.col("layer") == choice.layer, pl.col("shots") == shots)
    columns = ["task", "shots", "layer", "n", "cd", "ci_low", "ci_high", "chance", "accuracy"]
    spec = study.points[0].spec
    return {
        "version": 1,
        "model": spec.model.name,
        "family": spec.tasks.family,
        "layers": overall["layer"].n_unique(),
        "k": table["k"][0],
        "level": spec.statistics.level,
        "shots": shots,
        "chance": table["chance"][0],
        "choice": asdict(choice),
        "by_shots": _plain(best.sort("shots"), columns),
        "by_task": _plain(chosen.filter(pl.col("task") != ALL), columns),
        "pairs": _plain(pairs.sort("cd"), pairs.columns),
    }


def _plain(table: pl.DataFrame, columns: list[str]) -> list[dict[str, Any]]:
    return table.select(columns).with_columns(pl.col(pl.Float64).fill_nan(None)).to_dicts()


def _report(
    folder: Path, run: Path, summary: dict[str, Any], table: pl.DataFrame, pairs: pl.DataFrame, projection: pl.DataFrame
) -> None:
    # matplotlib takes a second to load
    from patchboard.lab.language.decodability_figures import drawings
    from patchboard.lab.language.decodability_findings import findings, introduction, overview
    from patchboard.lab.page import Page, write_page

    text = (run / "spec.yaml").read_text(encoding="utf-8")
    page = Page("Concept Decodability", introduction(summary), findings(summary), overview(summary), text)
    write_page(folder, page, drawings(summary, table, pairs, projection))
