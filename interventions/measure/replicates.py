"""Replicates over seeds: the paper's bars, and the matrix of source against target tasks, from a run's outcomes.

A replicate is a value of ``prompts.seed``: other queries, other fit prompts, another vector. The spread over seeds
(standard deviation, ddof 1) is the paper's error bar; the interval resamples queries within seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from patchboard.measure.statistics import Bootstrap, interval

SOURCE = "from-"
"""How interventions that patch one named task's mean begin."""

MEASURED = {
    "mean": pl.Float64(),  # over seeds, each seed's mean over its queries
    "sd": pl.Float64(),  # of the seeds' means, ddof 1; null for a single seed
    "ci_low": pl.Float64(),  # bootstrap over queries, within each seed
    "ci_high": pl.Float64(),
    "seeds": pl.Int32(),
    "n": pl.Int32(),  # queries of all seeds
}
CHOSEN = {"chosen_by": pl.String(), "layer": pl.Int32()}
"""Of every table: by what the layer was chosen (``cd`` as in the paper, ``effect``), and which it is."""
BARS = {**CHOSEN, "shots": pl.Int32(), "task": pl.String(), "condition": pl.String(), **MEASURED}
MATRIX = {
    **CHOSEN,
    "shots": pl.Int32(),
    "source": pl.String(),  # whose mean is patched in
    "target": pl.String(),  # whose prompt it is
    "measure": pl.String(),  # accuracy or logprob: patched - clean; conversion: share answered as the source would
    **MEASURED,
}


def replicated(rows: pl.DataFrame, keys: Sequence[str], bootstrap: Bootstrap) -> pl.DataFrame:
    """MEASURED of each group of ``keys``, in order of appearance. rows: ``keys``, ``seed``, ``value`` (finite)."""
    measured = []
    for key, group in rows.group_by(keys, maintain_order=True):
        means = group.group_by("seed", maintain_order=True).agg(pl.col("value").mean())["value"]
        seeds = [str(seed) for seed in group["seed"].to_list()]
        low, high = interval(group["value"].to_numpy()[:, None], bootstrap, seeds)
        spread = means.std(ddof=1) if len(means) > 1 else None
        measured.append((*key, means.mean(), spread, low[0], high[0], len(means), group.height))
    return pl.DataFrame(measured, schema={**{key: rows.schema[key] for key in keys}, **MEASURED}, orient="row")


def bars(outcomes: pl.LazyFrame, layer: int, bootstrap: Bootstrap) -> pl.DataFrame:
    """Accuracy of each task unperturbed, and with its own mean (positive), Null's (negative), a random vector.

    outcomes: store.schema.OUTCOMES. Returns BARS without CHOSEN, at that layer; queries that are excluded are left out.
    The random vectors have the norm of the task's own mean: control of ``positive``.
    """
    rows = outcomes.filter(
        pl.col("layer") == layer,
        pl.col("metric") == "accuracy",
        pl.col("intervention").is_in(["positive", "negative"]),
        pl.col("control").is_in(["", "random"]),
        pl.col("clean").is_not_nan(),
    ).collect()
    own, positive = pl.col("control") == "", pl.col("intervention") == "positive"
    conditions = {
        "unperturbed": rows.filter(own, positive).with_columns(value="clean"),
        "positive": rows.filter(own, positive).with_columns(value="patched"),
        "negative": rows.filter(own, ~positive).with_columns(value="patched"),
        "random": rows.filter(~own, positive).with_columns(value="patched"),
    }
    named = pl.concat([part.with_columns(condition=pl.lit(name)) for name, part in conditions.items()])
    return replicated(named, ["shots", "task", "condition"], bootstrap)


def matrix(outcomes: pl.LazyFrame, layer: int, bootstrap: Bootstrap) -> pl.DataFrame:
    """MATRIX without CHOSEN, at a layer: interventions that patch one named task's mean, Null's (``negative``) too.

    Conversion has no diagonal, and leaves out queries on which source and target agree.
    """
    rows = outcomes.filter(
        pl.col("layer") == layer,
        pl.col("control") == "",
        pl.col("intervention").str.starts_with(SOURCE) | (pl.col("intervention") == "negative"),
        pl.col("metric").is_in(["accuracy", "logprob", "conversion"]),
        pl.col("patched").is_not_nan(),
    ).collect()
    converted = pl.col("metric") == "conversion"
    rows = rows.with_columns(
        value=pl.when(converted).then("patched").otherwise(pl.col("patched") - pl.col("clean")),
        source="vector_task", target="task", measure="metric",
    )  # fmt: skip
    return replicated(rows, ["shots", "source", "target", "measure"], bootstrap)


def layer_by_cd(decodability: pl.DataFrame, edited: Sequence[int], shots: int) -> int:
    """The edited layer of the highest CD of all tasks at so many shots, mean over seeds; the earliest of equals."""
    overall = decodability.filter(pl.col("task") == "ALL", pl.col("shots") == shots, pl.col("layer").is_in(edited))
    return _best(overall, pl.col("cd"))


def layer_by_effect(outcomes: pl.LazyFrame, shots: int) -> int:
    """The layer at which the own task's mean raises accuracy most, at so many shots; the earliest of equals.

    Give it every second query only, and the tables the others: else the choice flatters its own effect.
    """
    rows = outcomes.filter(
        pl.col("intervention") == "positive",
        pl.col("control") == "",
        pl.col("metric") == "accuracy",
        pl.col("shots") == shots,
        pl.col("clean").is_not_nan(),
    ).collect()
    return _best(rows, pl.col("patched") - pl.col("clean"))


def _best(rows: pl.DataFrame, value: pl.Expr) -> int:
    means = rows.group_by("layer").agg(value.mean().alias("value"))
    return means.sort("value", "layer", descending=[True, False])["layer"][0]
