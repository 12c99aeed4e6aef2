"""Conditions side by side, as in the paper's table: CD, accuracy and effects of each, by task and over tasks.

A condition is the same prompts' rows under something else: the task stated in the prompt, other weights. The first
one is the base: its CD chooses the layer at which all are compared, and differences are paired with its queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from patchboard.errors import SpecError
from patchboard.measure.decodability import ALL
from patchboard.measure.replicates import layer_by_cd
from patchboard.measure.statistics import Bootstrap, Floats, Replicates, drawn, quantiles
from patchboard.spec import Study
from patchboard.spec.places import Several
from patchboard.spec.sites import HEADED
from patchboard.tasks.base import NULL

COMPARED = {
    "condition": pl.String(),
    "measure": pl.String(),  # cd, own cd (at the condition's own best layer), accuracy, effect (patched - clean)
    "intervention": pl.String(),  # of effect, else ""
    "layer": pl.Int32(),  # null for accuracy
    "shots": pl.Int32(),
    "task": pl.String(),  # a task, or ALL: the mean over tasks, Null not among them
    "value": pl.Float64(),
    "sd": pl.Float64(),  # of ALL: standard deviation of the tasks' values, ddof 1; else null
    "ci_low": pl.Float64(),  # bootstrap over queries within tasks (of CD: over points; null for ALL)
    "ci_high": pl.Float64(),
    "n": pl.Int32(),  # queries or points
    "difference": pl.Float64(),  # from the first condition, same queries; null for the first one and for CD
    "difference_low": pl.Float64(),
    "difference_high": pl.Float64(),
}

_QUERY = ("measure", "intervention", "shots", "task", "query")


@dataclass(frozen=True)
class Condition:
    """A condition's share of a run. outcomes, decodability: as in store.schema, of nothing else."""

    name: str
    outcomes: pl.LazyFrame
    decodability: pl.DataFrame


def check_comparable(study: Study, swept: str) -> None:
    """Raises SpecError where the study sweeps anything but ``swept`` and shots, has no CD, or no effect to compare."""
    for path in study.axes:
        if path not in (swept, "prompts.shots"):
            raise SpecError(path, f"is swept, expected sweeps of {swept} and prompts.shots alone", "run each value")
    for point in study.points:
        if point.spec.decodability is None:
            raise SpecError("decodability", "is null, expected a section: the layer is chosen by CD", "give it")
    spec = study.points[0].spec
    if "accuracy" not in spec.metrics:
        raise SpecError("metrics", "lacks accuracy, which is compared", "add it")
    if not spec.interventions:
        raise SpecError("interventions", "is empty: accuracy is read off its outcomes", "give one, of every layer")
    for name, section in spec.interventions.items():
        if section.edits is not None or section.site in HEADED or isinstance(section.layers, Several):
            what = "has several cells at a layer or none of one layer, expected one edit of whole states, cell by layer"
            raise SpecError(f"interventions.{name}", what, "leave out edits and heads, and write layers: all")


def compare_conditions(conditions: Sequence[Condition], bootstrap: Bootstrap) -> pl.DataFrame:
    """All conditions' COMPARED, the base's rows first: at its best layer by CD, at the most shots that it edits at."""
    base = conditions[0]
    own_cells = pl.col("control") == ""
    edited = base.outcomes.filter(own_cells).select(pl.col("layer").unique()).collect()["layer"].to_list()
    evaluated = base.outcomes.select(pl.col("shots").unique()).collect()["shots"].to_list()
    measured = base.decodability["shots"].unique().to_list()
    both = sorted(set(evaluated) & set(measured)) or [max(measured)]
    own = {each.name: layer_by_cd(each.decodability, edited, both[-1]) for each in conditions}
    layer = own[base.name]
    first = scores(base.outcomes, layer)
    rows: list[dict[str, Any]] = []
    for each in conditions:
        for measure, at in (("cd", layer), ("own cd", own[each.name])):
            cd_rows = [row for shots in both for row in _of_cd(each.decodability, at, shots)]
            rows += [{"condition": each.name, "measure": measure, "intervention": "", **row} for row in cd_rows]
        values = first if each is base else scores(each.outcomes, layer)
        rows += [{"condition": each.name, **row} for row in _of_scores(values, layer, bootstrap)]
        if each is not base:
            _add_differences(rows, each.name, values.join(first, on=_QUERY, suffix="_first"), bootstrap)
    return pl.DataFrame(rows, schema=COMPARED)


def summary_of_comparison(compared: pl.DataFrame) -> dict[str, Any]:
    """Its part of a summary.json. layer, shots: at which conditions are compared; own: condition -> its own best layer.

    compared: COMPARED, whose rows stand as ``compared``.
    """
    cd, own = (compared.filter(pl.col("measure") == measure) for measure in ("cd", "own cd"))
    return {
        "layer": cd["layer"][0],
        "shots": cd["shots"].max(),
        "own": dict(own.select("condition", "layer").unique(maintain_order=True).iter_rows()),
        "compared": compared.to_dicts(),
    }


def scores(outcomes: pl.LazyFrame, layer: int) -> pl.DataFrame:
    """``measure, intervention, shots, task, query, value`` at a layer, of queries that are not excluded.

    Accuracy is that of the clean prompt, effect what each intervention adds to it.
    """
    own = pl.col("control") == "", pl.col("metric") == "accuracy", pl.col("clean").is_not_nan()
    columns = pl.col("intervention", "task").cast(pl.String), "shots", "query", "clean", "patched"
    rows = outcomes.filter(pl.col("layer") == layer, *own).select(*columns).collect()
    once = rows.unique(["shots", "task", "query"], keep="first", maintain_order=True)
    accuracy = once.select(pl.lit("accuracy").alias("measure"), pl.lit("").alias("intervention"),
                           "shots", "task", "query", value="clean")  # fmt: skip
    effect = rows.select(pl.lit("effect").alias("measure"), "intervention", "shots", "task", "query",
                         value=pl.col("patched") - pl.col("clean"))  # fmt: skip
    return pl.concat([accuracy, effect])


def _of_cd(decodability: pl.DataFrame, layer: int, shots: int) -> Iterator[dict[str, Any]]:
    rows = decodability.filter(pl.col("layer") == layer, pl.col("shots") == shots, ~pl.col("task").is_in([ALL, NULL]))
    place = {"layer": layer, "shots": shots}
    for row in rows.iter_rows(named=True):
        yield place | {"value": row["cd"], **{key: row[key] for key in ("task", "ci_low", "ci_high", "n")}}
    spread = rows["cd"].std(ddof=1) if rows.height > 1 else None
    yield place | {"task": ALL, "value": rows["cd"].mean(), "sd": spread, "n": rows["n"].sum()}


def _of_scores(values: pl.DataFrame, layer: int, bootstrap: Bootstrap) -> Iterator[dict[str, Any]]:
    for key, group in values.group_by("measure", "intervention", "shots", maintain_order=True):
        place = dict(zip(_QUERY[:3], key, strict=True)) | {"layer": layer if key[0] == "effect" else None}
        for estimate in over_tasks(_by_task(group, pl.col("value")), bootstrap):
            yield place | estimate


def _add_differences(rows: list[dict[str, Any]], condition: str, paired: pl.DataFrame, bootstrap: Bootstrap) -> None:
    """Put into the condition's rows how far the paired queries are from the first condition's."""
    places = {
        tuple(row[name] for name in _QUERY[:4]): row
        for row in rows
        if row["condition"] == condition and row["measure"] in ("accuracy", "effect")
    }
    for key, group in paired.group_by("measure", "intervention", "shots", maintain_order=True):
        for estimate in over_tasks(_by_task(group, pl.col("value") - pl.col("value_first")), bootstrap):
            places[*key, estimate["task"]] |= {
                "difference": estimate["value"],
                "difference_low": estimate["ci_low"],
                "difference_high": estimate["ci_high"],
            }


def _by_task(group: pl.DataFrame, value: pl.Expr) -> dict[str, Floats]:
    parts = group.select("task", value.alias("value")).partition_by("task", maintain_order=True)
    return {part["task"][0]: part["value"].to_numpy() for part in parts}


def over_tasks(values: Mapping[str, Floats], bootstrap: Bootstrap) -> Iterator[dict[str, Any]]:
    """``task, value, sd, ci_low, ci_high, n`` of each task's mean, then of the tasks' mean (ALL).

    values: task -> [query]. Queries are resampled within tasks, which were chosen, not drawn; every task weighs the
    same in ALL, however many queries it has.
    """
    replicates = Replicates(len(values), bootstrap.resamples)
    for cell, (task, own) in enumerate(values.items()):
        for resamples, counts in drawn(task, len(own), bootstrap):
            replicates.add(own[:, None], counts, slice(cell, cell + 1), resamples)
    means = [float(own.mean()) for own in values.values()]
    for task, own, mean, low, high in zip(
        values, values.values(), means, *replicates.interval(bootstrap.level), strict=True
    ):
        yield {"task": task, "value": mean, "sd": None, "ci_low": float(low), "ci_high": float(high), "n": len(own)}
    low, high = quantiles(replicates.means().mean(0)[None], bootstrap.level)
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else None
    mean = round(float(np.mean(means)), 12)  # gains and losses that cancel are 0, not 1e-19
    yield {
        "task": ALL, "value": mean, "sd": spread, "ci_low": float(low[0]), "ci_high": float(high[0]),
        "n": sum(map(len, values.values())),
    }  # fmt: skip
