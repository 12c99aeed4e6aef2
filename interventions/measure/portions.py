"""A group's values a few cells at a time, so that what is held does not grow with its cells or queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from patchboard.metrics import METRICS
from patchboard.plan.model import Group, ScoredCell

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
    further = further_answers(group)
    most = 1 + max(map(len, further.values()), default=0)
    at_once = max(1, _VALUES_AT_ONCE // (len(group.prompts) * len(names) * most))
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
        values = _values(scores, names, [*needed, *_further_of(needed, further)], len(group.prompts))
        yield Portion(own, _over_answers(values, group, list(needed), further), fresh)


def further_answers(group: Group) -> dict[int, list[int]]:
    """Copy -> its copies under answers 1, 2, … of the same target; none where all queries have a single answer."""
    numbers = {copy: number for number, copy in enumerate(group.copies)}
    found: dict[int, list[int]] = {}
    for copy, number in numbers.items():
        if copy.answer:
            found.setdefault(numbers[replace(copy, answer=0)], []).append(number)
    return found


def _further_of(copies: Iterable[int], further: Mapping[int, list[int]]) -> list[int]:
    return [number for copy in copies for number in further.get(copy, ())]


def _over_answers(
    values: dict[str, np.ndarray], group: Group, copies: list[int], further: Mapping[int, list[int]]
) -> dict[str, np.ndarray]:
    """metric -> [query, copy] of ``copies``, each with what was scored on its further answers taken in.

    values: [query, copy] of ``copies`` and, behind them, of their further ones. A query with fewer answers has fewer
    values; one of whose answers one cannot be computed has none.
    """
    if not further:
        return values
    counts: dict[str, np.ndarray] = {}
    place = {copy: at for at, copy in enumerate([*copies, *_further_of(copies, further)])}
    for copy in copies:
        target = group.copies[copy].target
        if target not in counts:
            counts[target] = np.array([len(prompt.right(target)) for prompt in group.prompts])
        for number in further.get(copy, ()):
            has = counts[target] > group.copies[number].answer
            for name, array in values.items():
                if name != "moved":
                    a, b = array[has, place[copy]], array[has, place[number]]
                    with np.errstate(invalid="ignore"):  # a NaN stays one
                        array[has, place[copy]] = METRICS.get(name, "metrics").either(a, b)
    return {name: array[:, : len(copies)] for name, array in values.items()}


def _copies_of(use: ScoredCell) -> list[int]:
    return [copy for copy in (use.patched, use.converted, use.clean_converted) if copy >= 0]


def _split(uses: Iterable[ScoredCell], at_once: int) -> Iterator[list[ScoredCell]]:
    """Consecutive uses of at most ``at_once`` different copies; an empty portion where there is no use."""
    taken: list[ScoredCell] = []
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
