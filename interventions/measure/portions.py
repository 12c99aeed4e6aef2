"""A group's values a few cells at a time, so that what is held does not grow with its cells or queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from interventions.plan.model import Group, Use

_VALUES_AT_ONCE = 1 << 22
"""Bounds the values held at once: 32 MiB, eighty copies of 10,000 queries with five scores each."""


Scores = Callable[[], Iterable[pl.DataFrame]]
"""Gives a group's tables ``query, copy, moved, <metric …>``, as ``outcomes.combine`` makes them, in any order;
asked once a portion, so that only one of them need be held."""


@dataclass(frozen=True)
class Portion:
    """Some cells of a group, with the values of the copies that they need.

    group: the group with these cells' uses and copies alone; copies[0] is the clean run as ever.
    values: metric -> [query, copy], NaN where a copy could not be computed for a query.
    fresh: the copies that no portion before held (a self copy serves several interventions).
    """

    group: Group
    values: dict[str, np.ndarray]
    fresh: tuple[int, ...]


def portions(group: Group, scores: Scores) -> Iterator[Portion]:
    """The group's cells in order, in portions. The clean run is in each, the probe in the first."""
    names = [name for name in next(iter(scores())).columns if name not in ("query", "copy")]
    at_once = max(1, _VALUES_AT_ONCE // (len(group.prompts) * len(names)))
    seen: set[int] = set()
    for number, uses in enumerate(_split(group.uses, at_once)):
        needed = {0: None} | ({group.probe: None} if number == 0 else {})
        needed |= dict.fromkeys(copy for use in uses for copy in _copies_of(use))
        place = {copy: at for at, copy in enumerate(needed)} | {-1: -1}
        own = replace(
            group,
            copies=tuple(group.copies[copy] for copy in needed),
            probe=place.get(group.probe, -1),
            uses=tuple(
                replace(
                    use,
                    patched=place[use.patched],
                    converted=place[use.converted],
                    clean_converted=place[use.clean_converted],
                )
                for use in uses
            ),
        )
        fresh = tuple(place[copy] for copy in needed if copy not in seen)
        seen.update(needed)
        yield Portion(own, _values(scores, names, list(needed), len(group.prompts)), fresh)


def _copies_of(use: Use) -> list[int]:
    return [copy for copy in (use.patched, use.converted, use.clean_converted) if copy >= 0]


def _split(uses: Iterable[Use], at_once: int) -> Iterator[list[Use]]:
    """Consecutive uses of at most ``at_once`` different copies; an empty portion where there is no use."""
    taken: list[Use] = []
    copies: set[int] = set()
    for use in uses:
        more = copies.union(_copies_of(use))
        if taken and len(more) > at_once:
            yield taken
            taken, more = [], set(_copies_of(use))
        taken.append(use)
        copies = more
    yield taken


def _values(scores: Scores, names: list[str], copies: list[int], queries: int) -> dict[str, np.ndarray]:
    order = np.argsort(copies)
    out = {name: np.full((queries, len(copies)), np.nan) for name in names}
    for table in scores():
        rows = table.filter(pl.col("copy").is_in(copies))
        column = order[np.searchsorted(copies, rows["copy"].to_numpy(), sorter=order)]
        for name in names:
            out[name][rows["query"].to_numpy(), column] = rows[name].to_numpy()
    return out
