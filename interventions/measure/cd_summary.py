"""CD in few numbers: where it is highest, what counts as high, and how it stands beside an intervention's effects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import polars as pl

from patchboard.measure.cell_matrices import CellMatrices
from patchboard.measure.decodability import ALL
from patchboard.measure.floors import floors_in
from patchboard.measure.relation import correlation
from patchboard.measure.statistics import Bootstrap
from patchboard.store.schema import SHUFFLED, TWIN

WITHOUT_CD = ("cd_at_best_layer", "cd_shots", "chance", "correlation", "decodable_but_not_causal")
"""Keys that ``beside_cd`` always gives."""


def decodable(ci_low: pl.Expr, chance: pl.Expr) -> pl.Expr:
    """Where CD counts as high: its interval lies above half the way from chance to 1.

    (With 7 labels: above .57. Merely being above chance would call nearly every layer decodable.)
    """
    return ci_low > (1 + chance) / 2


def decodable_above_twin(above_twin_low: pl.Expr, twin: pl.Expr) -> pl.Expr:
    """Where CD is high beside an untrained twin's: the difference's interval lies above half the way from it to 1."""
    return above_twin_low > (1 - twin) / 2


def overall_cd(decodability: pl.DataFrame, setting: Mapping[str, Any]) -> pl.DataFrame:
    """CD of all labels by layer, at the largest number of shots and the setting's swept fields."""
    shared = {field: value for field, value in setting.items() if field not in ("shots", "seed")}
    shared = {field: value for field, value in shared.items() if field in decodability.columns}
    rows = decodability.filter(pl.col("task") == ALL, rows_at(shared))
    return rows.filter(pl.col("shots") == pl.col("shots").max()).unique("layer").sort("layer")


def beside_cd(
    cd: pl.DataFrame, layer: int | None, idle: Collection[int], matrices: CellMatrices, bootstrap: Bootstrap
) -> dict[str, Any]:
    """CD at the best layer of an intervention, its correlation with the effects, and where the two part.

    cd: of ``overall_cd``. idle: layers at which the intervention does nothing that can be told from zero. matrices: of
    its cells.
    """
    at = dict(zip(cd["layer"], cd["cd"], strict=True))
    high = cd.filter(decodable(pl.col("ci_low"), pl.col("chance")))
    edited = matrices.cells["layer"]
    of_cells = np.array([at.get(each, np.nan) for each in edited])
    beside_twin: dict[str, Any] = {}
    if "twin" in floors_in(cd):
        high = high.filter(decodable_above_twin(pl.col("above_twin_low"), pl.col("twin")))
        there = cd.filter(pl.col("layer") == layer).select(TWIN.keys()).to_dicts()
        above = dict(zip(cd["layer"], cd["above_twin"], strict=True))
        of_cells_above = np.array([above.get(each, np.nan) for each in edited])
        beside_twin = {
            "above_twin": there[0] if there else None,
            "correlation_above_twin": correlation(of_cells_above, matrices, bootstrap),
        }
    return {
        "cd_at_best_layer": at.get(layer),
        "cd_shots": cd["shots"].max(),
        "chance": cd["chance"].max(),
        "correlation": correlation(of_cells, matrices, bootstrap),
        **beside_twin,
        "decodable_but_not_causal": sorted(set(idle) & set(high["layer"])),
    }


def peak(decodability: pl.DataFrame) -> dict[str, Any] | None:
    """Where CD of all labels is highest, at the largest number of shots (of the first swept setting).

    ``shuffled``: of shuffled labels there. ``above_twin``: where CD is highest above an untrained twin's.
    """
    cd = overall_cd(decodability, {})
    if cd.is_empty():
        return None
    place = ("layer", "shots", "cd", "ci_low", "ci_high", "chance")
    top = cd.sort("cd", descending=True, maintain_order=True).row(0, named=True)
    found: dict[str, Any] = {field: top[field] for field in place}
    floors = floors_in(cd)
    if "shuffled" in floors:
        found["shuffled"] = {field: top[field] for field in SHUFFLED}
    if "twin" in floors:
        highest = cd.sort("above_twin", descending=True, nulls_last=True, maintain_order=True).row(0, named=True)
        found["above_twin"] = {field: highest[field] for field in (*place, *TWIN)}
    return found


def rows_at(fields: Mapping[str, Any]) -> pl.Expr:
    """Rows with these values; a missing value is a value (a field swept for another intervention)."""
    same = (pl.col(field).eq_missing(value) for field, value in fields.items())
    return pl.all_horizontal(pl.lit(True), *same)
