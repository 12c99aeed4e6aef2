"""The runs of a sweep as one table: parameters, and what each intervention did at its best layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.report.run_files import read_run, setting_label
from patchboard.spec.agreement import check_given
from patchboard.spec.load import load_study
from patchboard.spec.values import label
from patchboard.store.integrity import SPEC
from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.runner import Ran
from patchboard.track.values import summary_values

COLUMNS: dict[str, Any] = {
    "status": pl.Int32(),  # of the point's command, 0 where it is finished
    "objective": pl.Float64(),  # the sweep's metric
    "intervention": pl.String(),
    "setting": pl.String(),  # of fields swept within the run
    "metric": pl.String(),
    "layer": pl.Int32(),  # the best one, chosen on one half of the queries
    "effect": pl.Float64(),  # there, on the other half
    "ci_low": pl.Float64(),
    "ci_high": pl.Float64(),
    "n": pl.Int32(),
    "cd": pl.Float64(),  # at that layer
    "correlation": pl.Float64(),  # of CD and effect over layers
    "folder": pl.String(),
}
"""Behind the columns of the varied parameters. Of a point that failed all but status and folder is null."""


@dataclass(frozen=True)
class Point:
    """A point that has been run: its result, its metric's value, and its rows of the table."""

    ran: Ran
    objective: float | None
    rows: tuple[Mapping[str, Any], ...]


def collected(ran: Ran, sweep: SweepFile) -> Point:
    """Reads a point's run folder; a run of other values than the point's has failed.

    Raises SpecError where a finished run does not have the sweep's metric.
    """
    if ran.status == 0:
        ran = _held(ran)
    if ran.status:
        return Point(ran, None, ({"status": ran.status, "folder": str(ran.folder)},))
    run = read_run(ran.folder)
    objective = _objective(summary_values(run), sweep)
    shared = {"status": 0, "objective": objective, "metric": run.metric, "folder": str(ran.folder)}
    rows = [
        {
            **shared, "intervention": name, "setting": setting_label(point["at"]), "layer": point["best_layer"],
            **{field: point[field] for field in ("effect", "ci_low", "ci_high", "n")},
            "cd": point["cd_at_best_layer"], "correlation": (point["correlation"] or {}).get("spearman"),
        }
        for name, entry in run.summary["interventions"].items() for point in entry["points"]
    ]  # fmt: skip
    return Point(ran, objective, tuple(rows) or (shared,))


def _held(ran: Ran) -> Ran:
    """The point, failed where its folder's spec holds other values than it was given."""
    try:
        check_given(load_study(ran.folder / SPEC).tree, ran.point)
    except SpecError as error:
        return replace(ran, status=error.exit_status, message=error.one_line())
    return ran


def _objective(values: Mapping[str, Any], sweep: SweepFile) -> float | None:
    if sweep.metric is None:
        return None
    if sweep.metric not in values:
        numbers = [name for name, value in values.items() if isinstance(value, int | float)]
        raise SpecError("metric.name", f"a run has no value '{sweep.metric}'", suggest(sweep.metric, numbers))
    return float(values[sweep.metric])


def table_of(points: Sequence[Point], sweep: SweepFile) -> pl.DataFrame:
    """One row a point, intervention and setting within the run: the varied parameters, then COLUMNS."""
    varied = [parameter.name for parameter in sweep.varied]
    rows = [{**{name: point.ran.point[name] for name in varied}, **row} for point in points for row in point.rows]
    kinds = {name: _kind([row[name] for row in rows]) for name in varied}
    for row in rows:
        row |= {name: label(row[name]) for name in varied if kinds[name] == pl.String()}
    return pl.DataFrame(
        [{name: row.get(name) for name in (*kinds, *COLUMNS)} for row in rows], schema={**kinds, **COLUMNS}
    )


def _kind(values: Sequence[Any]) -> Any:
    """The column for a parameter: numbers where all are, else text."""
    if values and all(type(value) is int for value in values):
        return pl.Int64()
    if values and all(type(value) in (int, float) for value in values):
        return pl.Float64()
    return pl.String()


def best_of(points: Sequence[Point], sweep: SweepFile) -> Point | None:
    """The point with the best value of the metric; None without one."""
    known = [point for point in points if point.objective is not None]
    if not known:
        return None
    return (max if sweep.goal == "maximize" else min)(known, key=lambda point: point.objective or 0.0)
