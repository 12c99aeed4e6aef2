"""Accuracy of probes beside chance and the control task, by task, layer and number of shots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from patchboard.measure.clusters import cluster_interval
from patchboard.measure.decodability import ALL, label_codes
from patchboard.measure.statistics import Bootstrap, Floats
from patchboard.store.schema import PROBED, TWIN


@dataclass(frozen=True)
class Probed:
    """What probes have told of each point, at one number of shots.

    queries: [point] numbers. given: [layer, probe, point] codes (``label_codes``). control: [layer, probe, point] how
    often the probe was right of the control tasks. features: [probe, point] codes given by random features. twin: as
    ``given``, of the untrained twin's states.
    """

    queries: NDArray[np.int64]
    given: NDArray[np.int64]
    control: Floats
    features: NDArray[np.int64]
    twin: NDArray[np.int64] | None = None


def probe_table(
    probed: dict[int, Probed], probes: Sequence[str], labels: Sequence[str], bootstrap: Bootstrap
) -> pl.DataFrame:
    """store.schema.PROBED, and of TWIN's columns where there is one. probed: by number of shots. labels: [point]."""
    rows = [row for shots, each in probed.items() for row in _at(shots, each, probes, labels, bootstrap)]
    columns = PROBED | (TWIN if any(each.twin is not None for each in probed.values()) else {})
    return pl.DataFrame(rows, schema=columns, orient="row")


def _at(
    shots: int, probed: Probed, probes: Sequence[str], labels: Sequence[str], bootstrap: Bootstrap
) -> Iterator[dict[str, Any]]:
    names, codes, different = np.asarray(labels), label_codes(labels), list(dict.fromkeys(labels))
    layers = len(probed.given)
    right, features = _cells(probed.given == codes), np.tile(_cells((probed.features == codes)[None]), layers)
    control = _cells(probed.control)
    twin = None if probed.twin is None else _cells(probed.twin == codes)
    for task in (*different, ALL):
        points = np.flatnonzero(names == task) if task != ALL else np.arange(len(names))
        told = {"accuracy": right, "shuffled": control, "random_features": features, "selectivity": right - control}
        if twin is not None:
            told |= {"twin": twin, "above_twin": right - twin}
        values: dict[str, Floats] = {name: of_points[points].mean(axis=0) for name, of_points in told.items()}
        for name, bounds in (("accuracy", "ci"), ("selectivity",) * 2, ("twin",) * 2, ("above_twin",) * 2):
            if name in told:
                ends = cluster_interval(told[name][points], probed.queries[points], bootstrap)
                values[f"{bounds}_low"], values[f"{bounds}_high"] = ends
        for cell, (layer, number) in enumerate(np.ndindex(layers, len(probes))):
            yield {
                "task": task, "probe": probes[number], "layer": layer, "shots": shots, "n": len(points),
                "chance": 1.0 / len(different), **{name: float(each[cell]) for name, each in values.items()},
            }  # fmt: skip


def _cells(of_points: NDArray) -> Floats:
    """[layer, probe, point] -> [point, layer x probe]"""
    return of_points.reshape(-1, of_points.shape[-1]).T.astype(float)
