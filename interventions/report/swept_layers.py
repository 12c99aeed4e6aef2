"""Interventions of several edits, one of which goes over layers: along these their figures are drawn."""

from __future__ import annotations

import re
from dataclasses import replace

import polars as pl

from patchboard.report.run_files import Run

_LAYERS = re.compile(r"interventions\.([^.]+)\.(edits\[\d+\])\.layers")


def along_swept_layers(run: Run) -> Run:
    """The run with ``curves`` in which cells of an intervention that sweeps the layers of one of its edits, block by
    block, stand at these blocks, as if that edit stood alone. A swept position of that edit becomes the position.

    In the tables such a cell stands at the earliest block of all its edits, and its layers are a setting.
    """
    found = [match for match in map(_LAYERS.fullmatch, run.swept) if match]
    names = [match[1] for match in found]
    curves = run.curves
    for match in found:
        name, path = match[1], match[0]
        if names.count(name) > 1 or not curves[path].dtype.is_integer():
            continue
        own = pl.col("intervention") == name
        layer, position = pl.col(path), f"interventions.{name}.{match[2]}.position"
        curves = curves.with_columns(
            pl.when(own).then(layer.cast(curves["layer"].dtype)).otherwise("layer").alias("layer"),
            pl.when(own).then(layer.cast(pl.String)).otherwise("layers").alias("layers"),
        ).drop(path)
        if position in curves.columns:
            put = pl.when(own).then(pl.col(position).cast(pl.String)).otherwise("position").alias("position")
            curves = curves.with_columns(put).rename({position: f"interventions.{name}.position"})
    return replace(run, curves=curves)
