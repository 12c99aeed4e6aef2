"""The likeliest next tokens as the explorer holds them: one entry for each query of a cell, and of the clean run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from patchboard.report.explorer.packed import Packed, Piece

_NONE = -1
"""In place of a token's place among the texts: nothing is kept of that query."""


class Tokens:
    """Entries are added as cells are met; each holds ``count`` tokens, the likeliest first.

    table: store.schema.TOP_TOKENS and swept fields. of_prompt, of_cell: columns that name the prompts of a clean run,
    and a cell.
    """

    def __init__(self, table: pl.DataFrame, of_prompt: Sequence[str], of_cell: Sequence[str]):
        self._rows = {
            "clean": _by_name(table.filter(pl.col("run") == "clean"), of_prompt),
            "patched": _by_name(table.filter(pl.col("run") == "patched"), of_cell),
        }
        self.count = int(table["token_ids"].list.len().max() or 0)  # pyright: ignore[reportArgumentType]  # a number
        self._texts: dict[int, tuple[int, str]] = {}
        self._begins: dict[tuple[Any, ...], int] = {}
        self._ids: list[int] = []
        self._chances: list[float] = []
        self._answers: list[tuple[float, int]] = []

    def entry(self, run: str, name: tuple[Any, ...], queries: Sequence[int]) -> int:
        """The number of the first of the entries of these queries, one after the other. name: values of the columns
        that name the prompts or the cell."""
        key = run, *name
        if key not in self._begins:
            self._begins[key] = len(self._answers)
            rows = self._rows[run].get(name, {})
            for query in queries:
                self._add(rows.get(query))
        return self._begins[key]

    def place(self, token: int) -> int:
        """Where its text stands among those told, if it is one of the tokens that are kept."""
        return self._texts[token][0] if token in self._texts else _NONE

    def told(self, clean: Sequence[int]) -> Piece:
        """All entries. clean: the first one of each set of prompts."""
        packed = Packed()
        return packed, {
            "count": self.count,
            "texts": [text for _, text in self._texts.values()],
            "ids": packed.numbers(self._ids),
            # thousandths: few different numbers take few bytes
            "chance": packed.numbers(np.round(1000 * np.array(self._chances))),
            "answer": packed.numbers(np.round(1000 * np.array([chance for chance, _ in self._answers]))),
            "rank": packed.numbers([rank for _, rank in self._answers]),
            "clean": packed.numbers(clean),
        }

    def _add(self, row: Mapping[str, Any] | None) -> None:
        if row is None:
            self._ids += [_NONE] * self.count
            self._chances += [0.0] * self.count
            self._answers.append((0.0, 0))
            return
        for token, text in zip(row["token_ids"], row["tokens"], strict=True):
            self._ids.append(self._texts.setdefault(token, (len(self._texts), text))[0])
        self._chances += np.exp(row["logprobs"]).tolist()
        self._answers.append((float(np.exp(row["answer_logprob"])), row["answer_rank"]))


def _by_name(rows: pl.DataFrame, names: Sequence[str]) -> dict[tuple[Any, ...], dict[int, dict[str, Any]]]:
    """Values of the columns -> query -> row."""
    found: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for row in rows.iter_rows(named=True):
        found.setdefault(tuple(row[name] for name in names), {})[row["query"]] = row
    return found
