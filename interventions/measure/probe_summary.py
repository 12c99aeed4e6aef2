"""Probes in few numbers: where each tells most, and whether CD and it rise and fall together."""

from __future__ import annotations

from typing import Any

import polars as pl

from patchboard.measure.decodability import ALL
from patchboard.measure.relation import FEWEST_LAYERS, spearman
from patchboard.store.schema import DECODABILITY, FLOORS, PROBED, TWIN


def probe_summary(probes: pl.DataFrame, decodability: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Probe -> its row of PROBED where its accuracy of all labels is highest, at the largest number of shots (of the
    first swept setting), CD there, and ``agreement``. Tables as the run has them.

    agreement: Spearman's rank correlation of CD and the probe's accuracy over ``points`` pairs of a task and a layer;
    None of fewer than four, or where one of the two is the same everywhere.
    """
    largest = probes.filter(pl.col("shots") == pl.col("shots").max())
    entries: dict[str, dict[str, Any]] = {}
    for (name,), rows in largest.group_by("probe", maintain_order=True):
        rows = rows.unique(["task", "layer"], keep="first", maintain_order=True)
        both = beside_cd(rows, decodability)
        overall = both.filter(pl.col("task") == ALL).sort("layer")
        top = overall.row(int(overall["accuracy"].arg_max() or 0), named=True)
        columns = [column for column in PROBED | TWIN if column in top and column not in ("task", "probe")]
        entries[str(name)] = {**{column: top[column] for column in (*columns, "cd")}, "agreement": agreement(both)}
    return entries


def agreement(both: pl.DataFrame) -> dict[str, Any] | None:
    """As ``probe_summary`` tells it. both: one probe's rows of ``beside_cd`` at one number of shots and setting."""
    single = both.filter(pl.col("task") != ALL)
    if len(single) < FEWEST_LAYERS:
        return None
    rank = float(spearman(single["cd"].to_numpy(), single["accuracy"].to_numpy()[None])[0])
    return {"spearman": rank, "points": len(single)} if rank == rank else None


def beside_cd(probes: pl.DataFrame, decodability: pl.DataFrame) -> pl.DataFrame:
    """The rows of probes with CD of the same task, layer, number of shots and swept setting under ``cd``."""
    swept = [column for column in probes.columns if column not in PROBED | TWIN]
    assert not set(swept) & (DECODABILITY | FLOORS).keys()
    place = ["task", "layer", "shots", *swept]
    return probes.join(decodability.select(*place, "cd"), on=place, how="left", nulls_equal=True, maintain_order="left")
