"""The finished run's own values of the cells that a script recomputes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.emit.select import ChosenGroup
from patchboard.errors import RunFolderError
from patchboard.measure.outcomes import plain
from patchboard.plan.cells import Cell
from patchboard.plan.model import ModelPlan
from patchboard.spec.axes import Study
from patchboard.store.folder import read_manifest


@dataclass(frozen=True)
class Recorded:
    """A finished run's folder and what its manifest says."""

    folder: Path
    manifest: dict[str, Any]

    def dtype(self, plan: ModelPlan) -> str:
        """In which the run's model computed."""
        entries = self.manifest.get("models", [])
        return next((m["dtype"] for m in entries if m["name"] == plan.section.name and "dtype" in m), "")

    def values(self, chosen: ChosenGroup, cell: Cell) -> dict[str, list[tuple[float, float]]]:
        """Metric -> (clean, patched) of each chosen query; metrics that the cell was not scored by are absent."""
        group = chosen.group
        swept = {path: plain(value) for path, value in cell.swept}
        wanted = {**cell.row, "task": group.task, "shots": group.shots, "seed": group.seed, **swept}
        table = pl.scan_parquet(self.folder / "outcomes.parquet", glob=False)
        kinds = table.collect_schema()  # a swept field of several types is held as text
        here = [pl.col(column) == pl.lit(value).cast(kinds[column]) for column, value in wanted.items()]
        rows = table.filter(*here, pl.col("query").is_in(list(chosen.queries))).collect()
        values_of: dict[str, dict[int, tuple[float, float]]] = {}
        for metric, query, clean, patched in rows.select("metric", "query", "clean", "patched").iter_rows():
            values_of.setdefault(metric, {})[query] = _rounded(clean), _rounded(patched)
        return {metric: [by_query[i] for i in chosen.queries] for metric, by_query in values_of.items()}


def recorded(study: Study, named: Path | None, default: Path) -> Recorded | None:
    """The run in the folder that the user named, else the one in the default folder, if it is there and finished.

    Raises RunFolderError for a named folder that holds no finished run of this spec.
    """
    folder = named or default
    manifest = read_manifest(folder) if named or folder.is_dir() else {}
    problem = _problem(study, manifest)
    if not problem:
        return Recorded(folder, manifest)
    if named:
        raise RunFolderError(str(folder), problem, "run the spec first, or leave --run out")
    return None


def _problem(study: Study, manifest: dict[str, Any]) -> str:
    if not manifest:
        return "is not the folder of a run"
    if manifest["digest"] != study.digest:
        return f"holds a run of another spec (digest {manifest['digest'][:8]}, this one is {study.digest[:8]})"
    return "" if manifest.get("status") == "finished" else "is not the folder of a finished run"


def _rounded(value: float) -> float:
    """All digits that a float32 has."""
    return float(f"{value:.9g}")
