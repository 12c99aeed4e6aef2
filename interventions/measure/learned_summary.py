"""What learning did to vectors, on the pairs that were held out of it: as it is told in the summary."""

from __future__ import annotations

from typing import Any

import polars as pl


def learned_summary(table: pl.DataFrame) -> list[dict[str, Any]]:
    """``summary.json``'s ``learned``, an entry each model, intervention and setting. table: store.schema.LEARNED.

    ``pairs``, ``held_out``: the fewest of a task; ``steps``: the most that any vector took until the one that is kept.
    ``best``: the place with the largest held-out accuracy (then with the smallest loss), means over tasks: ``layer``,
    ``head``, ``accuracy``, ``loss``, ``rank``, and ``drawn``, the accuracy of the vectors as they were before the first
    step.
    """
    groups = table.group_by("model", "intervention", "setting", maintain_order=True)
    return [_entry(dict(zip(("model", "intervention", "setting"), key, strict=True)), rows) for key, rows in groups]


def _entry(named: dict[str, Any], rows: pl.DataFrame) -> dict[str, Any]:
    kept = rows.filter("chosen")
    drawn = rows.filter(pl.col("step") == 0).group_by("layer", "head").agg(drawn=pl.col("held_out_accuracy").mean())
    places = kept.group_by("layer", "head", maintain_order=True).agg(
        accuracy=pl.col("held_out_accuracy").mean(), loss=pl.col("held_out_loss").mean(), rank=pl.col("rank").mean()
    )
    ranked = places.join(drawn, on=["layer", "head"]).sort("accuracy", "loss", descending=[True, False])
    return {
        **named,
        "vectors": kept["vector"].n_unique(),
        "pairs": rows["pairs"].min(),
        "held_out": rows["held_out"].min(),
        "steps": kept["step"].max(),
        "best": ranked.row(0, named=True),
    }
