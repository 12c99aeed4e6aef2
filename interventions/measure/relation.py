"""CD beside causality: rank correlation with the effect over layers, and the fit of accuracy on CD."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata

from patchboard.measure.cell_matrices import CellMatrices
from patchboard.measure.decodability import ALL
from patchboard.measure.statistics import Bootstrap, Floats, quantiles
from patchboard.store.schema import DECODABILITY, FLOORS
from patchboard.tasks.base import NULL

FEWEST_LAYERS = 4
"""Below, a rank correlation says nothing: three layers come in the same order in one of six shuffles."""


def correlation(cd: Floats, matrices: CellMatrices, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Spearman's rank correlation of CD and effect over layers, its interval from resampled queries.

    cd: [cells] CD at each cell's layer, NaN where it was not measured.
    matrices: the cells of one intervention, one a layer, with all queries.
    Returns spearman, ci_low, ci_high and the number of layers; None with fewer than FEWEST_LAYERS
    layers. spearman is NaN where CD or the effect is the same at all layers. CD is taken as it is:
    the interval holds the effect's uncertainty only.
    """
    if (~np.isnan(cd)).sum() < FEWEST_LAYERS:
        return None
    measured = [part.measured(bootstrap) for part in matrices.parts(bootstrap)]
    effect = np.concatenate([means.effect for means, _ in measured])
    used = ~(np.isnan(cd) | np.isnan(effect))
    if used.sum() < FEWEST_LAYERS:
        return None
    drawn = np.concatenate([replicates.means() for _, replicates in measured])[used]
    low, high = quantiles(spearman(cd[used], drawn.T)[None, :], bootstrap.level)
    return {
        "spearman": float(spearman(cd[used], effect[used][None, :])[0]),
        "ci_low": float(low[0]),
        "ci_high": float(high[0]),
        "layers": int(used.sum()),
    }


def spearman(x: Floats, y: Floats) -> Floats:
    """Spearman's correlation of x [layers] with each row of y [rows, layers]: Pearson's of the ranks.

    Ties get their mean rank. NaN where x or a row of y is constant or holds NaN.
    """
    a = rankdata(x) - (len(x) + 1) / 2
    b = rankdata(y, axis=1, nan_policy="propagate") - (len(x) + 1) / 2
    with np.errstate(invalid="ignore"):
        return (b @ a) / np.sqrt((a @ a) * (b * b).sum(axis=1))


def accuracy_against_cd(decodability: pl.DataFrame) -> list[dict[str, Any]]:
    """The least-squares line of accuracy on CD, over tasks and numbers of shots from 1 on.

    CD is that of the layer at which the CD of all labels, averaged over those shots, is highest. ALL
    and Null are no points: Null has no right answer. Source: arXiv 2412.12276, figure of accuracy
    against CD (6 tasks x {1, 4, 10} shots).

    Returns one dict for each different setting of swept fields: at, layer, slope, intercept, r2, n and
    points; slope, intercept and r2 are NaN with fewer than 3 points or equal CDs. Settings that share
    their decodability (only the interventions differ) are one.
    """
    swept = [column for column in decodability.columns if column not in DECODABILITY | FLOORS]
    fits: dict[str, dict[str, Any]] = {}
    for part in decodability.partition_by(swept, maintain_order=True) if swept else [decodability]:
        fit = _fit(part.filter(pl.col("shots") >= 1))
        if fit:
            at = {field: part[field][0] for field in swept if part[field][0] is not None}
            fits.setdefault(repr(fit), {"at": at, **fit})  # as text, in which NaN equals NaN
    return list(fits.values())


def _fit(table: pl.DataFrame) -> dict[str, Any] | None:
    overall = table.filter(pl.col("task") == ALL).group_by("layer").agg(pl.col("cd").mean()).sort("layer")
    if overall.is_empty():
        return None
    layer = int(overall["layer"][int(overall["cd"].arg_max() or 0)])
    used = table.filter(
        pl.col("layer") == layer,
        ~pl.col("task").is_in([ALL, NULL]),
        pl.col("accuracy").is_not_nan(),
    ).sort("task", "shots")
    x, y = used["cd"].to_numpy(), used["accuracy"].to_numpy()
    line: dict[str, float] = dict.fromkeys(("slope", "intercept", "r2"), float("nan"))
    if len(x) >= 3 and np.ptp(x) > 0:
        slope, intercept = np.polyfit(x, y, deg=1)
        line |= {"slope": float(slope), "intercept": float(intercept)}
        if np.ptp(y) > 0:
            line["r2"] = float(np.corrcoef(x, y)[0, 1]) ** 2
    points = used.select("task", "shots", "cd", "accuracy").to_dicts()
    return {"layer": layer, **line, "n": len(points), "points": points}
