"""The likeliest next tokens as they stand behind the scores of a pack."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from patchboard.plan.model import Group
from patchboard.plan.shown import kept_answers, shown_copies

_COLUMNS = {
    "token_ids": pl.List(pl.Int32()),
    "logprobs": pl.List(pl.Float32()),
    "answer_logprob": pl.Float32(),
    "answer_rank": pl.Int32(),
}
KEPT = tuple(_COLUMNS)
"""Columns of a pack's table; null in answers of which nothing is kept."""


def with_top_tokens(table: pl.DataFrame, group: Group, top: Mapping[str, np.ndarray] | None) -> pl.DataFrame:
    """table: a pack's scores, one row an answer. top: as ``engine.top_tokens`` gives it, of those of its answers that
    ``kept_answers`` names, in their order. The table as it is where the group keeps none."""
    if top is None or not shown_copies(group):
        return table
    kept = kept_answers(group, table["query"].to_numpy(), table["copy"].to_numpy())
    columns = dict(zip(KEPT, (top[name].tolist() for name in ("ids", "logprobs", "answer", "rank")), strict=True))
    rows = pl.DataFrame(
        {"row": np.flatnonzero(kept).tolist(), **columns}, schema={"row": pl.UInt32(), **_COLUMNS}, strict=False
    )
    return table.with_row_index("row").join(rows, on="row", how="left", maintain_order="left").drop("row")


def kept_only(table: pl.DataFrame) -> pl.DataFrame:
    """``query, copy`` and KEPT, of the answers of which something is kept."""
    return table.select("query", "copy", *KEPT).filter(pl.col(KEPT[0]).is_not_null())
