"""Measures of texts that were written under edits, beside the unedited ones behind the same prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from patchboard.measure.outcomes import plain, swept_schema
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.plan.model import Group
from patchboard.store.schema import CELL, TEXTS

NGRAM = 4
"""Length of the sequences of tokens whose repetition is counted."""
TEXT_MEASURES = ("perplexity", "repetition")


def repetition(tokens: Sequence[int]) -> float:
    """1 - (number of different 4-grams) / (number of 4-grams) of a text's tokens: 0 where none comes twice, near 1 in
    a loop; NaN of fewer than 4 tokens.

    Source: seq-rep-4 of Welleck et al. 2020, Neural Text Generation with Unlikelihood Training.

    >>> repetition([1, 2, 3, 4, 5]), repetition([7, 8] * 4)
    (0.0, 0.6)
    """
    grams = [tuple(tokens[i : i + NGRAM]) for i in range(len(tokens) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else float("nan")


def text_schema(groups: Iterable[Group]) -> dict[str, pl.DataType]:
    """The columns of texts.parquet: store.schema.TEXTS, then the swept fields of all groups."""
    return {**TEXTS, **swept_schema(groups)}


def swept_of_texts(texts: pl.DataFrame) -> list[str]:
    """The swept fields among a table's columns."""
    return [column for column in texts.columns if column not in TEXTS]


def text_row(group: Group, use: int, **told: Any) -> dict[str, Any]:
    """A row of texts.parquet of a cell. told: what of it is the text's own."""
    cell = group.uses[use].cell
    swept = {path: plain(value) for path, value in cell.swept}
    return {"task": group.task, **cell.row, "shots": group.shots, "seed": group.seed, **swept, **told}


def text_means(texts: pl.DataFrame, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Of each intervention, control, place and setting, pooled over tasks: ``n`` queries, ``changed``, the share of
    texts that are not the clean one, and of each measure the means ``clean`` and ``edited`` and ``effect`` with
    ``ci_low`` and ``ci_high`` (NaN where no task has two queries).

    Samples of a query are averaged first, and queries resampled within their task. Means of perplexity are geometric:
    exp of the mean log, and its effect a quotient, edited over clean.
    """
    swept = swept_of_texts(texts)
    keys = [name for name in CELL if name not in ("vector_task", "op", "site", "position")]
    return [
        {
            **{name: value for name, value in zip([*keys, *swept], key, strict=True) if name not in swept},
            "at": {
                name: value
                for name, value in zip([*keys, *swept], key, strict=True)
                if name in swept and value is not None
            },
            **_means_of(cell, bootstrap),
        }
        for key, cell in texts.group_by([*keys, *swept], maintain_order=True)
    ]


def _means_of(cell: pl.DataFrame, bootstrap: Bootstrap) -> dict[str, Any]:
    differing = (pl.col("clean_text") != pl.col("edited_text")).cast(pl.Float64).alias("changed")
    logs = (pl.col(f"{side}_perplexity").log() for side in ("clean", "edited"))
    sides = chain.from_iterable((f"clean_{name}", f"edited_{name}") for name in TEXT_MEASURES)
    of_query = (
        cell.with_columns(differing, *logs)
        .group_by("task", "query", maintain_order=True)
        .agg(pl.col("changed", *sides).fill_nan(None).mean())
    )
    told: dict[str, Any] = {"n": len(of_query), "changed": of_query["changed"].mean()}
    for name in TEXT_MEASURES:
        both = of_query.drop_nulls([f"clean_{name}", f"edited_{name}"])
        told[name] = _effect(both[f"clean_{name}"], both[f"edited_{name}"], both["task"].to_list(), bootstrap)
        if name == "perplexity":
            told[name] = {field: float(np.exp(value)) for field, value in told[name].items()}
    return told


def _effect(clean: pl.Series, edited: pl.Series, strata: Sequence[str], bootstrap: Bootstrap) -> Mapping[str, float]:
    if clean.is_empty():
        return dict.fromkeys(("clean", "edited", "effect", "ci_low", "ci_high"), float("nan"))
    differences = (edited - clean).to_numpy()
    low, high = interval(differences[:, None], bootstrap, strata)
    if len(set(strata)) == len(strata):  # one query of each task: nothing to resample, which is no certainty
        low = high = np.full(1, np.nan)
    return {
        "clean": float(clean.to_numpy().mean()),
        "edited": float(edited.to_numpy().mean()),
        "effect": float(differences.mean()),
        "ci_low": float(low[0]),
        "ci_high": float(high[0]),
    }
