"""A map of the relative changes, the published heads outlined."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from patchboard.report.drawing import Drawing
from patchboard.report.layer_map import Grid, Panel, map_numbers, stacked


def drawings(summary: Mapping[str, Any], direct: pl.DataFrame) -> Iterator[Drawing]:
    known = direct.filter(pl.col("published").is_not_null())
    outlined = [(str(layer), head) for layer, head in known.select("layer", "head").iter_rows()]
    rows = direct.with_columns(layers=pl.col("layer").cast(pl.String), effect=pl.col("relative"))
    largest = direct["relative"].fill_nan(None).abs().max()
    limit = float(largest) if isinstance(largest, float) and largest > 0 else 1.0
    columns = [str(layer) for layer in range(summary["layers"])]
    grid = Grid(columns, direct["head"].unique().sort().to_list(), 1, limit)
    caption = (
        "Change of the logit difference by a head's direct path to the logits, over the difference without an edit. A"
        " dot marks intervals that leave out zero." + " Outlined: heads with a published number." * bool(outlined)
    )
    parts = [Panel("paths to the logits", rows, outlined)]
    label = "relative change of logit difference"
    yield Drawing(
        "direct", "Direct effects of heads", caption, stacked(parts, grid, label), map_numbers(parts, label, "fraction")
    )
