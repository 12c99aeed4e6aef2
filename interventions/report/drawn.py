"""The numbers that a figure shows, as tables whose columns are called alike: the CSV beside each figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from patchboard.report.run_files import setting_label

_WHERE = (
    "panel", "series", "model", "revision", "task", "setting", "intervention", "control", "condition", "probe",
    "layer", "layers", "probed_layer", "head", "position", "shots", "seed", "step",
)  # fmt: skip
"""Columns that say of what a number is, in the order of the file; they are taken along where a table has them."""
_WHAT = ("metric", "unit", "estimate", "low", "high", "n")
"""Columns of the number itself: of what, in which unit, the number, its interval, the queries or prompts in it."""


def tidy(
    table: pl.DataFrame, estimate: str, bounds: str = "ci", keep: Sequence[str] = (), swept: Sequence[str] = (),
    **said: Any,
) -> pl.DataFrame:  # fmt: skip
    """A row a row of the table: where it is from, and its column ``estimate`` as that.

    bounds: of the interval, columns ``{bounds}_low`` and ``{bounds}_high``, where there are any. keep: further columns.
    swept: fields that are told in words as ``setting``. said: columns of one value, ``metric="accuracy"``.

    >>> rows = pl.DataFrame({"layer": [0, 1], "cd": [0.5, 0.75], "ci_low": [0.25, 0.5], "ci_high": [0.75, 1.0]})
    >>> tidy(rows, "cd", metric="CD").row(1, named=True)
    {'metric': 'CD', 'layer': 1, 'estimate': 0.75, 'low': 0.5, 'high': 1.0}
    """
    columns: list[pl.Expr | pl.Series] = [pl.lit(value).alias(name) for name, value in said.items()]
    if swept:
        known: dict[tuple[Any, ...], str] = {}
        for row in table.select(swept).iter_rows():
            if row not in known:
                told = {name: value for name, value in zip(swept, row, strict=True) if value is not None}
                known[row] = setting_label(told)
        labels = [known[row] for row in table.select(swept).iter_rows()]
        columns.append(pl.Series("setting", labels, dtype=pl.String))
    taken = (name for name in (*_WHERE, *keep) if name in table.columns and name not in said)
    columns += [pl.col(name) for name in dict.fromkeys(taken)]
    columns.append(pl.col(estimate).cast(pl.Float64).alias("estimate"))
    for end in ("low", "high"):
        if f"{bounds}_{end}" in table.columns:
            columns.append(pl.col(f"{bounds}_{end}").cast(pl.Float64).alias(end))
    if "n" in table.columns and "n" not in said:
        columns.append(pl.col("n"))
    return table.select(columns)


def joined(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Tidy tables under each other: where a number is from first, then the number; columns without a value left out."""
    both = pl.concat(tables, how="diagonal_relaxed")
    told = [name for name in both.columns if both[name].null_count() < len(both)]
    others = [name for name in told if name not in _WHERE and name not in _WHAT]
    return both.select(*(n for n in _WHERE if n in told), *others, *(n for n in _WHAT if n in told))
