"""The rows of top_tokens.parquet: the likeliest next tokens of the clean run and of each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import polars as pl

from patchboard.measure.outcomes import plain, swept_schema
from patchboard.measure.scored_group import ScoredGroup
from patchboard.plan.model import Group
from patchboard.store.schema import TOP_TOKENS


def top_schema(groups: Iterable[Group]) -> dict[str, pl.DataType]:
    """Columns of top_tokens.parquet: store.schema.TOP_TOKENS, then the swept fields of all groups."""
    return {**TOP_TOKENS, **swept_schema(groups)}


def top_rows(scored: ScoredGroup, schema: Mapping[str, pl.DataType], text_of: Callable[[int], str]) -> pl.DataFrame:
    """The group's rows, those of the clean run first, then cell by cell. schema: as ``top_schema`` gives it. text_of: a
    token's text, by its id."""
    if scored.top is None:
        return pl.DataFrame(schema=schema)
    group = scored.group
    cells = [*_clean_runs(group), *_cells(group)]
    places = {"task": group.task, "shots": group.shots, "seed": group.seed}
    whose = pl.DataFrame([cell | places for cell in cells], infer_schema_length=None, strict=False)
    texts = {number: text_of(number) for number in scored.top["token_ids"].explode().unique().to_list()}
    words = pl.col("token_ids").list.eval(pl.element().replace_strict(texts, return_dtype=pl.String))
    kept = scored.top.with_columns(tokens=words).sort("copy", "query")
    rows = whose.cast({"copy": pl.Int32}).join(kept, on="copy", how="inner", maintain_order="left_right")
    lacking = [pl.lit(None).alias(name) for name in schema if name not in rows.columns]
    return rows.with_columns(lacking).select(pl.col(name).cast(kind) for name, kind in schema.items())


def _clean_runs(group: Group) -> Iterator[dict[str, Any]]:
    """The clean run at each setting of what is swept beside interventions."""
    settings = []
    for use in group.uses:
        setting = {path: plain(value) for path, value in use.cell.swept if not path.startswith("interventions.")}
        if not use.cell.control and setting not in settings:
            settings.append(setting)
    yield from ({"run": "clean", "copy": 0, **setting} for setting in settings)


def _cells(group: Group) -> Iterator[dict[str, Any]]:
    for use in group.uses:
        if not use.cell.control:
            swept = {path: plain(value) for path, value in use.cell.swept}
            yield {"run": "patched", "copy": use.patched, **use.cell.row, **swept}
