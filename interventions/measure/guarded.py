"""What fresh probes find after edits that erase, as a table and in few numbers.

Source: Belrose et al. 2023 (arXiv 2306.03819), theorem 3.1: states guard a label linearly, so that no linear probe has
less loss on them than the best constant, exactly where their means given each label are equal. LEACE makes them so on
the states that it is fitted on, and on no others; what blocks behind the edit compute of them is another matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from patchboard.measure.clusters import cluster_interval
from patchboard.measure.decodability import ALL, label_codes
from patchboard.measure.statistics import Bootstrap, Floats
from patchboard.store.schema import GUARDED

Tested = Literal["cross_validated", "in_sample"]


@dataclass(frozen=True)
class Points:
    """labels, queries: [point] whose prompt it is, and the number of its query."""

    labels: Sequence[str]
    queries: NDArray[np.int64]


def guarded_rows(
    points: Points, fixed: dict[str, Any], probes: Sequence[str], given: NDArray[np.int64], clean: NDArray[np.int64],
    bootstrap: Bootstrap,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Rows of store.schema.GUARDED of one cell.

    fixed: columns that all rows share, the edited ``layer`` among them. given, clean: [layer, probe, point] codes
    (``label_codes``) that the probes give, after the edit and in the unedited run, at layers from the edited one on.
    """
    names, codes, different = np.asarray(points.labels), label_codes(points.labels), list(dict.fromkeys(points.labels))
    after, before = (_cells(each == codes) for each in (given, clean))
    for task in (*different, ALL):
        rows = np.flatnonzero(names == task) if task != ALL else np.arange(len(names))
        low, high = cluster_interval(after[rows], points.queries[rows], bootstrap)
        for cell, (behind, probe) in enumerate(np.ndindex(given.shape[:2])):
            yield {
                **fixed,
                "task": task,
                "probe": probes[probe],
                "probed_layer": fixed["layer"] + behind,
                "n": len(rows),
                "accuracy": float(after[rows, cell].mean()),
                "ci_low": float(low[cell]),
                "ci_high": float(high[cell]),
                "unablated": float(before[rows, cell].mean()),
                "chance": 1.0 / len(different),
                "constant": float(np.bincount(codes).max() / len(codes)),
            }


def _cells(of_points: NDArray) -> Floats:
    """[layer, probe, point] -> [point, layer x probe]"""
    return of_points.reshape(-1, of_points.shape[-1]).T.astype(float)


def guarded_summary(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Of each intervention, setting and probe what is left of all labels, after editing the layer at which the probe of
    the unedited run finds most (on held-out prompts).

    Each entry: intervention, at (swept fields), probe, layer, layers (all that are edited), chance, ``by_task``:
    whether each task's prompts lose a subspace of their own; ``held_out`` and, where there are such prompts, ``fit``
    (cross-validated) and ``in_sample``: rows at the edited layer; ``later``: the
    held-out row of the later layer at which most is found; ``random``: the held-out row after a random subspace (the
    first draw).
    """
    swept = [column for column in table.columns if column not in GUARDED]
    overall = table.filter(pl.col("task") == ALL)
    entries = []
    for key, rows in overall.group_by("intervention", *swept, "probe", maintain_order=True):
        own, random = (rows.filter((pl.col("control") == "") == mine) for mine in (True, False))
        there = own.filter(pl.col("half") == "held_out", pl.col("probed_layer") == pl.col("layer"))
        if there.is_empty():
            continue
        top = there.sort("unablated", descending=True, maintain_order=True).row(0, named=True)
        here, edited = pl.col("layer") == top["layer"], pl.col("probed_layer") == pl.col("layer")
        held, crossed = pl.col("half") == "held_out", pl.col("tested") == "cross_validated"
        later = own.filter(here, held, ~edited).sort("accuracy", descending=True, maintain_order=True)
        entries.append(
            {
                "intervention": key[0],
                "at": {name: value for name, value in zip(swept, key[1:-1], strict=True) if value is not None},
                "probe": key[-1],
                "layer": top["layer"],
                "layers": top["layers"],
                "chance": top["chance"],
                "by_task": top["vector_task"].startswith("same_task"),
                "held_out": _told(there.filter(here)),
                "fit": _told(own.filter(here, edited, ~held, crossed)),
                "in_sample": _told(own.filter(here, edited, ~crossed)),
                "later": _told(later),
                "random": _told(random.filter(here, edited, held)),
            }
        )
    return entries


def _told(rows: pl.DataFrame) -> dict[str, Any] | None:
    columns = ("probed_layer", "n", "accuracy", "ci_low", "ci_high", "unablated", "constant")
    return rows.select(columns).row(0, named=True) if len(rows) else None
