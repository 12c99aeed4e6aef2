"""What was scored of a group's prompts under each of its copies, as matrices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from patchboard.measure.kept_tokens import KEPT, kept_only
from patchboard.metrics import METRICS
from patchboard.plan.model import Group

ScoreTables = Iterable[pl.DataFrame]
"""A group's tables ``query, copy, moved, <metric …>``, as ``outcomes.combine`` makes them, perhaps with ``KEPT``, in
any order."""


@dataclass(frozen=True)
class ScoredGroup:
    """values: metric -> [query, copy], and ``moved`` likewise. NaN where a copy could not be computed for a query, and
    in copies of further right answers: what was scored there is taken into their first answer's.

    top: ``query, copy`` and ``measure.kept_tokens.KEPT``, of the answers of which tokens are kept; None where none are.
    """

    group: Group
    values: dict[str, np.ndarray]
    top: pl.DataFrame | None = None


def gather_scores(group: Group, tables: ScoreTables) -> ScoredGroup:
    """All that was scored of the group; of the tables one is held at a time."""
    values: dict[str, np.ndarray] = {}
    top = []
    for table in tables:
        if set(KEPT) <= set(table.columns):
            top.append(kept_only(table))
            table = table.drop(KEPT)
        at = table["query"].to_numpy(), table["copy"].to_numpy()
        for name in table.columns:
            if name not in ("query", "copy"):
                if name not in values:
                    values[name] = np.full((len(group.prompts), len(group.copies)), np.nan)
                values[name][at] = table[name].to_numpy()
    _take_in_further_answers(values, group)
    return ScoredGroup(group, values, pl.concat(top) if top else None)


def _take_in_further_answers(values: dict[str, np.ndarray], group: Group) -> None:
    """Changes the arrays in place. A query with fewer answers has fewer values; one of whose answers one cannot be
    computed has none."""
    numbers = {copy: number for number, copy in enumerate(group.copies)}
    answers: dict[str, np.ndarray] = {}  # target -> [query] how many right answers there are
    for copy, number in numbers.items():
        if not copy.answer:
            continue
        if copy.target not in answers:
            answers[copy.target] = np.array([len(prompt.right(copy.target)) for prompt in group.prompts])
        has, first = answers[copy.target] > copy.answer, numbers[replace(copy, answer=0)]
        for name, array in values.items():
            if name != "moved":
                with np.errstate(invalid="ignore"):  # a NaN stays one
                    array[has, first] = METRICS.get(name, "metrics").either(array[has, first], array[has, number])
            array[:, number] = np.nan
