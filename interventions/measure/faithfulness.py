"""How much of what a model does a set of its heads does alone: faithfulness over sizes of sets, and areas by it.

faithfulness(k) = (m(k) - m(0)) / (m(all) - m(0)), m(k) the mean metric with the first k heads kept and all others
edited: 0 where no head is kept, 1 where all are. CPR is the area under it over the share of heads that are kept, CMD
the area between it and 1. Source: Mueller et al. 2025, MIB, arXiv 2504.13151.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from patchboard.measure.cell_matrices import cell_matrices
from patchboard.measure.outcome_index import Outcomes
from patchboard.measure.statistics import Bootstrap, Floats, quantiles
from patchboard.spec.keep import FIRST

CONTROL = "random_heads"


def own_and_random(outcomes: Outcomes, metric: str) -> Outcomes:
    """The cells of interventions themselves and of random sets of heads."""
    return outcomes.where(pl.col("metric") == metric, pl.col("control").is_in(["", CONTROL]))


def faithfulness(outcomes: Outcomes, circuits: Sequence[str], bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """One entry for each circuit, setting of the other swept fields, and control: ``intervention, control, at, heads``
    (of which there are so many), ``curve`` (a point a size: ``kept, faithfulness, ci_low, ci_high, n``), ``cpr`` and
    ``cmd`` (each ``value, ci_low, ci_high``).

    outcomes: of one metric. Tasks are pooled, and so are draws of random sets. All sizes are resampled together. Where
    the interval of m(all) - m(0) holds 0 the heads make no difference that could be shared, and all numbers are NaN.
    """
    return [
        {"intervention": name, "control": control, "at": at, **_of_curve(curve, bootstrap.level)}
        for name in circuits
        for control in ("", CONTROL)
        for at, curve in _curves(outcomes, name, control, bootstrap)
    ]


@dataclass(frozen=True)
class _Kept:
    """What the edit of all others does with so many heads kept: mean effect, replicates [resamples], queries."""

    effect: float
    replicates: Floats
    n: int


def _curves(
    outcomes: Outcomes, name: str, control: str, bootstrap: Bootstrap
) -> Iterator[tuple[dict[str, Any], dict[int, _Kept]]]:
    """(setting, size -> what was measured) for each setting of the other swept fields."""
    axis = f"interventions.{name}.{FIRST}"
    fields = ["shots", "seed", *(path for path in outcomes.swept if path != axis)]
    found: dict[tuple, dict[int, _Kept]] = {}
    mine = outcomes.where(pl.col("intervention") == name, pl.col("control") == control)
    for matrices in cell_matrices(mine, pooled=True):
        for part in matrices.parts(bootstrap):
            means, replicates = part.measured(bootstrap)
            rows = zip(part.cells.iter_rows(named=True), replicates.means(), strict=True)
            for number, (row, drawn) in enumerate(rows):
                kept = _Kept(float(means.effect[number]), drawn, int(means.n[number]))
                found.setdefault(tuple(row[field] for field in fields), {})[int(row[axis])] = kept
    for values, curve in found.items():
        setting = dict(zip(fields, values, strict=True))
        yield {field: value for field, value in setting.items() if value is not None}, dict(sorted(curve.items()))


def _of_curve(curve: Mapping[int, _Kept], level: float) -> dict[str, Any]:
    """Every size's faithfulness is 1 - (effect there) / (effect of no head kept), since all is the clean run."""
    none, every = curve[0], max(curve)
    low, high = quantiles(none.replicates[None], level)
    if low[0] <= 0 <= high[0]:
        none = _Kept(np.nan, np.full_like(none.replicates, np.nan), none.n)
    shares = np.array(list(curve)) / every
    with np.errstate(invalid="ignore", divide="ignore"):
        values = 1 - np.array([kept.effect for kept in curve.values()]) / none.effect
        replicates = 1 - np.stack([kept.replicates for kept in curve.values()]) / none.replicates
    low, high = quantiles(replicates, level)
    points = [
        {"kept": size, "faithfulness": float(value), "ci_low": float(a), "ci_high": float(b), "n": kept.n}
        for (size, kept), value, a, b in zip(curve.items(), values, low, high, strict=True)
    ]
    return {
        "heads": every,
        "curve": points,
        "cpr": _area(values, replicates, shares, level),
        "cmd": _area(np.abs(1 - values), np.abs(1 - replicates), shares, level),
    }


def _area(values: Floats, replicates: Floats, shares: Floats, level: float) -> dict[str, float]:
    """By the trapezoid rule. values [size], replicates [size, resamples], shares of heads [size]."""
    low, high = quantiles(np.asarray(np.trapezoid(replicates, shares, axis=0))[None], level)
    return {"value": float(np.trapezoid(values, shares)), "ci_low": float(low[0]), "ci_high": float(high[0])}
