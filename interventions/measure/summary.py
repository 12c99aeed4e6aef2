"""A run in one JSON document: per intervention the best layer, what it does there, and CD beside it.

The best layer is the one of the largest mean effect, in size, of the first metric. Choosing the
largest of many noisy means flatters it, so it is chosen on the even queries of every task and all
that is said of it (effect, controls, tasks, metrics) is measured on the odd ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from patchboard.measure.cd_summary import WITHOUT_CD, beside_cd, overall_cd, peak, rows_at
from patchboard.measure.cell_matrices import CellMatrices, cell_matrices
from patchboard.measure.effects import curves, effects
from patchboard.measure.faithfulness import faithfulness, own_and_random
from patchboard.measure.outcome_index import Outcomes
from patchboard.measure.relation import accuracy_against_cd
from patchboard.measure.statistics import Bootstrap
from patchboard.store.version import VERSION

_VALUES = ("clean", "patched", "effect", "ci_low", "ci_high", "n")
_PLACE = ("layer", "layers", "head")
"""What an intervention's own cells differ in at one setting."""


def summarise(
    outcomes: Outcomes, decodability: pl.DataFrame | None, metric: str, bootstrap: Bootstrap,
    axes: Mapping[str, str] | None = None, circuits: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The summary of a run, ready for JSON: NaN is None.

    decodability: store.schema.DECODABILITY (swept columns allowed), None or empty where it was not measured.
    metric: the first one of the spec, by which the best layer is chosen.
    axes: intervention -> how its cells' several blocks depend on the layer, ``onwards`` or ``upto``; none of others.
    circuits: interventions that keep sets of heads of sizes from none to all; of these ``faithfulness`` tells
    (``measure.faithfulness``), which is there where there are any.

    Every entry of ``points`` is one setting of the swept fields (``at``); an intervention's top level
    repeats the setting with the largest effect on the choosing half. ``causal`` are the layers
    at which the interval of an effect, over all queries, leaves out zero. ``cd_*``, ``chance`` and ``correlation`` take
    CD of all labels at the largest number of shots; they and ``decodable_but_not_causal`` are None without it. See
    ``cd_summary.decodable`` for the latter. Where CD has an untrained twin's beside it, ``above_twin`` and
    ``correlation_above_twin`` say the same of CD less the twin's, ``decodability.above_twin`` where that is highest.
    """
    if decodability is not None and decodability.is_empty():
        decodability = None
    own = outcomes.where(pl.col("metric") == metric, pl.col("control") == "")
    tables = _Tables(
        choosing=curves(own.where(odd=False), bootstrap),
        reporting=curves(outcomes.where(odd=True), bootstrap),
        whole=curves(own, bootstrap),
        by_task=effects(own.where(odd=True), bootstrap),
        own_matrices=tuple(cell_matrices(own, pooled=True)),
        decodability=decodability,
        metric=metric,
        setting=("shots", "seed", *outcomes.swept),
        axes=axes or {},
    )
    fits = [] if decodability is None else accuracy_against_cd(decodability)
    made = {
        "version": VERSION,
        "metric": metric,
        "level": bootstrap.level,
        "interventions": {
            name: _intervention(tables, name, bootstrap)
            for name in outcomes.cells["intervention"].unique(maintain_order=True)
        },
        "decodability": None if decodability is None else peak(decodability),
        "accuracy_against_cd": {**fits[0], "settings": fits} if fits else None,
    }
    if circuits:
        made["faithfulness"] = faithfulness(own_and_random(outcomes, metric), circuits, bootstrap)
    return without_nan(made)


def without_nan(value: Any) -> Any:
    """The same nest of dicts and lists with None in place of NaN and infinities."""
    if isinstance(value, Mapping):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class _Tables:
    """What all interventions are summarised from; ``own`` rows are those of no control, first metric."""

    choosing: pl.DataFrame
    reporting: pl.DataFrame
    whole: pl.DataFrame
    by_task: pl.DataFrame
    own_matrices: tuple[CellMatrices, ...]
    decodability: pl.DataFrame | None
    metric: str
    setting: tuple[str, ...]
    axes: Mapping[str, str]


def _intervention(tables: _Tables, name: str, bootstrap: Bootstrap) -> dict[str, Any]:
    cells = tables.whole.filter(pl.col("intervention") == name)
    settings = cells.select(tables.setting).unique(maintain_order=True).to_dicts()
    points = [_point(tables, name, setting, bootstrap) for setting in settings]
    if not points:
        return {"best_layer": None, "points": []}
    best = max(points, key=lambda point: _size(point["effect_on_choosing_half"]))
    return {**best, "points": points}


def _size(effect: float) -> float:
    return -1.0 if math.isnan(effect) else abs(effect)


def _point(tables: _Tables, name: str, setting: Mapping[str, Any], bootstrap: Bootstrap) -> dict[str, Any]:
    here = rows_at({"intervention": name, **setting})
    known_effects = tables.choosing.filter(here, pl.col("effect").is_not_nan())
    chosen = known_effects.sort(pl.col("effect").abs(), descending=True, maintain_order=True)
    known = ("shots", "seed")
    point: dict[str, Any] = {
        "at": {field: value for field, value in setting.items() if field not in known and value is not None},
        **{field: setting[field] for field in known},
        "axis": tables.axes.get(name),
        "best_layer": None,
        "layers": None,
        "head": None,
        "effect_on_choosing_half": float("nan"),
        **dict.fromkeys(_VALUES),
        "controls": {},
        "conversion": None,
        "metrics": {},
        "per_task": {},
    }
    if not chosen.is_empty():
        place = chosen.row(0, named=True)
        point |= {
            "best_layer": place["layer"],
            "layers": place["layers"],
            "head": place["head"] if place["head"] >= 0 else None,
            "effect_on_choosing_half": place["effect"],
            **_measured(tables, here & rows_at({field: place[field] for field in _PLACE})),
        }
    return point | _beside_cd(tables, name, setting, point["best_layer"], bootstrap)


def _measured(tables: _Tables, cell: pl.Expr) -> dict[str, Any]:
    """What the reporting half says of one cell and its controls."""
    rows = tables.reporting.filter(cell)
    first = rows.filter(pl.col("metric") == tables.metric)
    mine, controls = first.filter(pl.col("control") == ""), first.filter(pl.col("control") != "")
    conversion = rows.filter(pl.col("metric") == "conversion", pl.col("n") > 0).sort("control")
    by_task = tables.by_task.filter(cell).group_by("task", maintain_order=True)
    return {
        **(_values(mine)[0] if len(mine) else dict.fromkeys(_VALUES)),
        "controls": dict(zip(controls["control"], _values(controls), strict=True)),
        "conversion": dict(zip(conversion["control"], _values(conversion), strict=True)) or None,
        "metrics": {
            name: _values(part)[0]
            for (name,), part in rows.filter(pl.col("control") == "").group_by("metric", maintain_order=True)
        },
        "per_task": {task: _values(part)[0] for (task,), part in by_task},
    }


def _values(rows: pl.DataFrame) -> list[dict[str, Any]]:
    return rows.select(_VALUES).to_dicts()


def _beside_cd(
    tables: _Tables, name: str, setting: Mapping[str, Any], layer: int | None, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Layers of an effect, and what CD says of them."""
    own = tables.whole.filter(rows_at({"intervention": name, **setting})).group_by(
        "layer"
    )  # a layer may have many heads
    idle = own.agg(((pl.col("ci_low") <= 0) & (pl.col("ci_high") >= 0)).all().alias("idle"), pl.col("n").max())
    still, acting = idle.filter("idle"), idle.filter(~pl.col("idle"), pl.col("n") > 0)
    causal = {"causal": sorted(acting["layer"])}
    if tables.decodability is None:
        return causal | dict.fromkeys(WITHOUT_CD)
    cd, matrices = overall_cd(tables.decodability, setting), _matrices_of(tables.own_matrices, name, setting)
    return causal | beside_cd(cd, layer, still["layer"].to_list(), matrices, bootstrap)


def _matrices_of(own: Sequence[CellMatrices], name: str, setting: Mapping[str, Any]) -> CellMatrices:
    """The cells of one intervention at one setting."""
    wanted = rows_at({"intervention": name, **setting})
    for matrices in own:
        columns = matrices.cells.with_row_index("column").filter(wanted)["column"].to_numpy()
        if len(columns):
            return matrices.only(columns)
    raise AssertionError(f"no outcome of {name} at {setting}")
