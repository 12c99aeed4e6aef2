"""The run in a few numbers: best layers, their effects, CD there, and how CD and effect go together.

The best layer is chosen on even queries and its effect reported on odd ones, so that picking the
largest of many layers does not inflate what is reported.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import linregress, rankdata

from interventions.measure.decodability import ALL
from interventions.measure.effects import Bootstrap, curve_resamples, curves, swept_columns
from tasks.base import NULL

DECODABLE = 0.8
"""CD from which on a layer counts as decodable in "decodable is not causal"."""


def summarise(
    outcomes: pl.DataFrame, decodability: pl.DataFrame | None, metric: str, bootstrap: Bootstrap
) -> dict[str, Any]:
    """A JSON-ready dictionary; NaN becomes null. metric: the one by which layers are chosen."""
    cd = _cd_by_layer(decodability)
    swept = swept_columns(outcomes)
    pooled = curves(outcomes, bootstrap)
    chosen = curves(outcomes.filter(pl.col("query") % 2 == 0), bootstrap)
    reported = curves(outcomes.filter(pl.col("query") % 2 == 1), bootstrap)
    interventions = {}
    for name in outcomes["intervention"].unique(maintain_order=True):
        points = []
        own = outcomes.filter((pl.col("intervention") == name))
        for setting in own.select(swept).unique(maintain_order=True).iter_rows(named=True):
            here = _at(setting) & (pl.col("intervention") == name)
            point = _point(
                outcomes.filter(here & (pl.col("control") == "") & (pl.col("metric") == metric)),
                chosen.filter(here), reported.filter(here), pooled.filter(here), cd, metric, bootstrap,
            )  # fmt: skip
            if point is not None:
                points.append({"at": {k: v for k, v in setting.items() if v is not None}, **point})
        if points:
            best = max(points, key=lambda p: abs(p["effect_on_choosing_half"]))
            interventions[name] = {**best, "points": points}
    result = {
        "version": 1,
        "metric": metric,
        "interventions": interventions,
        "accuracy_against_cd": accuracy_against_cd(decodability),
    }
    return _json_ready(result)


def _at(setting: Mapping[str, Any]) -> pl.Expr:
    condition = pl.lit(True)
    for path, value in setting.items():
        condition &= pl.col(path).eq_missing(pl.lit(value))
    return condition


def _point(
    outcomes: pl.DataFrame, chosen: pl.DataFrame, reported: pl.DataFrame, pooled: pl.DataFrame,
    cd: dict[int, dict[str, float]], metric: str, bootstrap: Bootstrap,
) -> dict[str, Any] | None:  # fmt: skip
    """One intervention at one setting of the swept fields; None where no query could be measured."""
    own = (pl.col("control") == "") & (pl.col("metric") == metric)
    candidates = chosen.filter(own & pl.col("effect").is_not_nan())
    if candidates.is_empty():
        return None
    best = candidates.sort(pl.col("effect").abs(), descending=True, maintain_order=True).row(0, named=True)
    layer = best["layer"]
    at_best = reported.filter(pl.col("layer") == layer)
    value = _measure(at_best.filter(own))
    whole = pooled.filter(own).sort("layer")
    out: dict[str, Any] = {
        "op": best["op"],
        "shots": best["shots"],
        "best_layer": layer,
        **value,
        "effect_on_choosing_half": best["effect"],
        "cd_at_best_layer": cd.get(layer, {}).get("cd"),
        "cd_interval": [cd[layer]["ci_low"], cd[layer]["ci_high"]] if layer in cd else None,
        "chance": cd.get(layer, {}).get("chance"),
        "correlation": _correlation(outcomes, whole, cd, bootstrap),
        "decodable_but_not_causal": [
            row["layer"]
            for row in whole.iter_rows(named=True)
            if cd.get(row["layer"], {}).get("cd", 0) >= DECODABLE and row["ci_low"] <= 0 <= row["ci_high"]
        ],
        "metrics": {
            row["metric"]: _measure(at_best.filter((pl.col("control") == "") & (pl.col("metric") == row["metric"])))
            for row in at_best.filter(pl.col("control") == "").iter_rows(named=True)
        },
        "controls": {
            control: _measure(at_best.filter((pl.col("control") == control) & (pl.col("metric") == metric)))
            for control in at_best["control"].unique(maintain_order=True)
            if control
        },
    }
    conversion = at_best.filter(pl.col("metric") == "conversion")
    if not conversion.is_empty():
        out["conversion"] = {row["control"] or "itself": _measure(conversion.filter(pl.col("control") == row["control"]))
                             for row in conversion.iter_rows(named=True)}  # fmt: skip
    return out


def _measure(rows: pl.DataFrame) -> dict[str, Any]:
    if rows.is_empty():
        return dict.fromkeys(("clean", "patched", "effect", "ci_low", "ci_high", "n"))
    return rows.select("clean", "patched", "effect", "ci_low", "ci_high", "n").row(0, named=True)


def _cd_by_layer(decodability: pl.DataFrame | None) -> dict[int, dict[str, float]]:
    """Layer -> CD over all labels at the largest number of shots."""
    if decodability is None or decodability.is_empty():
        return {}
    rows = decodability.filter((pl.col("task") == ALL) & (pl.col("shots") == pl.col("shots").max()))
    return {row["layer"]: row for row in rows.unique("layer", keep="first", maintain_order=True).iter_rows(named=True)}


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rank correlation of each row of a [n, layer] with b [layer]; NaN where either is constant."""
    x, y = rankdata(a, axis=-1), rankdata(b)
    x, y = x - x.mean(-1, keepdims=True), y - y.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x @ y) / np.sqrt((x * x).sum(-1) * (y @ y))


def _correlation(
    outcomes: pl.DataFrame, whole: pl.DataFrame, cd: dict[int, dict[str, float]], bootstrap: Bootstrap
) -> dict[str, Any] | None:
    """Spearman's correlation over layers of CD with effect; interval: queries redrawn, CD as measured."""
    layers = whole["layer"].to_list()
    if len(layers) < 4 or any(layer not in cd for layer in layers) or whole["effect"].is_nan().any():
        return None
    decodable = np.array([cd[layer]["cd"] for layer in layers])
    value = spearman(whole["effect"].to_numpy()[None], decodable)[0]
    drawn = spearman(curve_resamples(outcomes, bootstrap), decodable)
    drawn = drawn[~np.isnan(drawn)]
    tail = (1 - bootstrap.level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (np.nan, np.nan)
    return {"spearman": float(value), "ci_low": float(low), "ci_high": float(high), "layers": len(layers)}


def accuracy_against_cd(decodability: pl.DataFrame | None) -> dict[str, Any] | None:
    """Linear fit of accuracy on CD over tasks and numbers of shots from 1, at the layer of highest CD
    (arXiv 2412.12276, figure 4); None with fewer than three points."""
    if decodability is None or decodability.is_empty():
        return None
    shown = decodability.filter(pl.col("shots") >= 1)
    over_all = shown.filter(pl.col("task") == ALL).group_by("layer", maintain_order=True).agg(pl.col("cd").mean())
    if over_all.is_empty():
        return None
    layer = over_all.sort("cd", descending=True, maintain_order=True)["layer"][0]
    rows = shown.filter((pl.col("layer") == layer) & ~pl.col("task").is_in([ALL, NULL]))
    points = rows.select("task", "shots", "cd", "accuracy").to_dicts()
    if len(points) < 3:
        return None
    x, y = rows["cd"].to_numpy(), rows["accuracy"].to_numpy()
    fit = linregress(x, y) if np.ptp(x) > 0 and np.ptp(y) > 0 else None
    return {
        "layer": layer,
        "slope": float(fit.slope) if fit else None,
        "intercept": float(fit.intercept) if fit else None,
        "r2": float(fit.rvalue) ** 2 if fit else None,
        "n": len(points),
        "points": points,
    }


def _json_ready(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_ready(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json_ready(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
