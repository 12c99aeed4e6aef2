"""Which place and strength? The largest effect within bounds, chosen on one half of the queries and told of the other.

A cell is within bounds where the random counterpart's effect is at most a share of its own, and the same edit moves
the next word of unrelated texts by at most so many nats (control ``unrelated``, metric ``kl``). The bound on KL is how
Arditi et al. 2024 (arXiv 2406.11717, appendix C) choose a direction, with the same default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from patchboard.errors import SpecError
from patchboard.measure.effects import curves
from patchboard.measure.outcome_index import Outcomes
from patchboard.measure.statistics import Bootstrap
from patchboard.plan.controls.unrelated import UNRELATED

Direction = Literal["rise", "fall", "either"]
KL = "kl"
_PLACE = ("layer", "layers", "head", "position", "strength")
_VALUES = ("effect", "ci_low", "ci_high", "n")


@dataclass(frozen=True)
class Rule:
    """What a cell must keep to.

    random: largest effect of the random counterpart, as a share of the cell's own; None: any. kl: largest KL on
    unrelated texts, in nats; None: any. direction: of the effect on the metric.
    """

    random: float | None = 0.5
    kl: float | None = 0.1
    direction: Direction = "either"


def recommendations(outcomes: Outcomes, metric: str, rule: Rule, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """One entry for each intervention and setting of what does not belong to it (shots, seed, …).

    ``choice``: the cell's place and its own swept fields, None where no cell keeps to the rule. ``chosen_by``: effect,
    random and kl on the even queries; ``effect``, ``random`` and ``kl``: of the odd queries, with intervals, None where
    not measured. ``breaks``: what of the rule the odd queries do not bear out, by name (``effect`` where its interval
    holds 0). ``considered`` cells, how many are ``refused`` by each bound, and ``without_bounds``, the largest effect
    of all.

    Raises SpecError for a metric that was not measured.
    """
    known = outcomes.cells["metric"].unique(maintain_order=True).to_list()
    if metric not in known:
        raise SpecError("--metric", f"the run has no metric '{metric}'", f"choose one of {', '.join(known)}")
    wanted = (pl.col("metric") == metric) | ((pl.col("metric") == KL) & (pl.col("control") == UNRELATED))
    even, odd = (curves(outcomes.where(wanted, odd=half), bootstrap) for half in (False, True))
    entries = []
    for name in outcomes.cells["intervention"].unique(maintain_order=True):
        own_fields = [field for field in outcomes.swept if field.startswith(f"interventions.{name}.")]
        others = [field for field in outcomes.swept if not field.startswith("interventions.")]
        table, reported = (_beside(half, name, metric, own_fields, others) for half in (even, odd))
        for setting, cells in table.group_by("shots", "seed", *others, maintain_order=True):
            at = dict(zip(("shots", "seed", *others), setting, strict=True))
            entry = {"intervention": name, "at": at, "metric": metric}
            entries.append(entry | _chosen(cells, reported, at, [*_PLACE, *own_fields], rule))
    return entries


def _beside(table: pl.DataFrame, name: str, metric: str, own: Sequence[str], others: Sequence[str]) -> pl.DataFrame:
    """One row a cell of the intervention: its effect, with ``random…`` and ``kl…`` of its controls where measured."""
    keys = ["shots", "seed", *others, *_PLACE, *own]
    here = table.filter(pl.col("intervention") == name)
    cells = here.filter(pl.col("control") == "", pl.col("metric") == metric).select(*keys, *_VALUES)
    beside = {
        "random": here.filter(pl.col("control").str.starts_with("random"), pl.col("metric") == metric),
        KL: here.filter(pl.col("control") == UNRELATED, pl.col("metric") == KL),
    }
    for kind, rows in beside.items():
        renamed = rows.select(*keys, *(pl.col(value).alias(f"{kind} {value}") for value in _VALUES))
        strongest = pl.col(f"{kind} effect").abs()  # of several random counterparts
        renamed = renamed.sort(strongest, descending=True, nulls_last=True, maintain_order=True)
        renamed = renamed.unique(keys, keep="first", maintain_order=True)
        cells = cells.join(renamed, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return cells


def _chosen(
    cells: pl.DataFrame, reported: pl.DataFrame, at: Mapping[str, Any], place: Sequence[str], rule: Rule
) -> dict[str, Any]:
    sign = {"rise": 1, "fall": -1}.get(rule.direction)
    right_way = pl.col("n") > 0 if sign is None else (pl.col("n") > 0) & (pl.col("effect") * sign > 0)
    some = cells.filter(right_way, pl.col("effect").is_not_nan())
    # what was not measured refuses nothing; the caller tells that it was not
    at_random = (pl.col("random effect").abs() > (rule.random or 0) * pl.col("effect").abs()).fill_null(False)
    on_texts = (pl.col(f"{KL} effect") > (rule.kl or 0)).fill_null(False)
    bounds = {
        "random": at_random if rule.random is not None else pl.lit(False),
        KL: on_texts if rule.kl is not None else pl.lit(False),
    }
    within = some.filter(~pl.any_horizontal(*bounds.values()))
    largest = some.sort(pl.col("effect").abs(), descending=True, maintain_order=True)
    entry: dict[str, Any] = {
        "choice": None,
        "considered": len(some),
        "refused": {kind: len(some.filter(refused)) for kind, refused in bounds.items()},
        "measured": {kind: bool(some[f"{kind} effect"].is_not_null().any()) for kind in bounds},
        "without_bounds": _told(largest.row(0, named=True), place) if len(largest) else None,
    }
    if within.is_empty():
        return entry
    best = within.sort(pl.col("effect").abs(), descending=True, maintain_order=True).row(0, named=True)
    same = (pl.col(field).eq_missing(pl.lit(best[field])) for field in (*at, *place))
    row = reported.filter(*same).row(0, named=True)
    parts = {kind: _part(row, prefix) for kind, prefix in (("effect", ""), ("random", "random "), (KL, f"{KL} "))}
    return entry | {
        "choice": {field: best[field] for field in place},
        "chosen_by": {kind: best[name] for kind, name in _NAMES.items()},
        **parts,
        "breaks": _breaks(parts, rule, sign),
    }


_NAMES = {"effect": "effect", "random": "random effect", KL: f"{KL} effect"}


def _told(row: Mapping[str, Any], place: Sequence[str]) -> dict[str, Any]:
    return {field: row[field] for field in place} | {kind: row[name] for kind, name in _NAMES.items()}


def _part(row: Mapping[str, Any], prefix: str) -> dict[str, Any] | None:
    """Effect, interval and n; None where not measured."""
    if row[f"{prefix}effect"] is None or math.isnan(row[f"{prefix}effect"]):
        return None
    return {value: row[f"{prefix}{value}"] for value in _VALUES}


def _breaks(parts: Mapping[str, Mapping[str, Any] | None], rule: Rule, sign: int | None) -> list[str]:
    """What of the rule is not borne out on the queries that had no part in choosing."""
    effect, random, kl = parts["effect"], parts["random"], parts[KL]
    if effect is None:
        return ["effect"]
    wrong_way = sign is not None and effect["effect"] * sign <= 0
    broken = {
        "effect": wrong_way or effect["ci_low"] <= 0 <= effect["ci_high"],
        "random": rule.random is not None and random and abs(random["effect"]) > rule.random * abs(effect["effect"]),
        KL: rule.kl is not None and kl and kl["effect"] > rule.kl,
    }
    return [name for name, fault in broken.items() if fault]
