"""The prompts of a run as the explorer shows them: those of one task and setting, and which tokens an edit is at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from patchboard.spec.axes import label
from patchboard.spec.positions import name_and_end


def prompts_at(prompts: pl.DataFrame, fields: Mapping[str, Any], settings: Mapping[str, Any]) -> pl.DataFrame:
    """Rows of prompts.parquet, in order of the queries. fields: ``role``, ``task`` and ``shots``; settings: swept
    fields with their values, None where one has none, by which sets of those are told apart."""
    rows = prompts.filter(*(pl.col(name) == value for name, value in fields.items()))
    if rows.select("set", "swept").n_unique() > 1:
        texts = {f"{path}={label(value)}" for path, value in settings.items() if value is not None}
        # a set's settings are written "prompts.seed=1, prompts.shots=4", several joined with " or "
        own = [
            swept
            for swept in rows["swept"].unique()
            if any(texts.issuperset(one.split(", ")) for one in swept.split(" or "))
        ]
        rows = rows.filter(pl.col("swept").is_in(own))
    return rows


def edited_tokens(position: str, row: Mapping[str, Any]) -> list[int]:
    """Indices of a prompt's edited tokens. position: as a cell's row tells it (``last``, ``query,-1``, ``a -> b``: the
    tokens that attend, of several edits joined with ``+``). row: of prompts.parquet; empty where it tells no places.

    >>> row = {"token_ids": [5, 6, 7, 8], "places": '{"last": [3], "query": [1, 2]}'}
    >>> edited_tokens("query.first+last", row), edited_tokens("all -> last", row), edited_tokens("0,-1", row)
    ([1, 3], [3], [0, 3])
    """
    if row.get("places") is None:
        return []
    places: dict[str, Sequence[int]] = json.loads(row["places"])
    size = len(row["token_ids"])
    places["all"] = range(size)
    found: set[int] = set()
    for edit in position.split("+"):
        for name in edit.split(" -> ")[-1].split(","):
            if name.lstrip("-").isdigit():
                index = int(name)
                found.update([index % size] if -size <= index < size else [])
                continue
            name, end = name_and_end(name)
            at = places.get(name, ())
            found.update(at if end is None else at[:1] if end == "first" else at[-1:])
    return sorted(found)


def marked_characters(position: str, row: Mapping[str, Any]) -> list[list[int]]:
    """[first, behind the last] characters of the edited tokens in the prompt's text, neighbours as one."""
    starts = row.get("starts")
    if not starts:
        return []
    ends = [*starts[1:], len(row["text"])]
    runs: list[list[int]] = []
    for token in edited_tokens(position, row):
        first, stop = starts[token], max(ends[token], starts[token])
        if first == stop:
            continue
        if runs and runs[-1][1] == first:
            runs[-1][1] = stop
        else:
            runs.append([first, stop])
    return runs
