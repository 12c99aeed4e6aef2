"""Edges of attention that are cut between two positions of one sequence."""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

Edge = tuple[int, int]
"""(token that attends, earlier token that it attends to), by their places in the sequence."""


def _others(origins: Sequence[int], at: int) -> list[int]:
    """Tokens that a random edge of one token may go to."""
    return [other for other in range(1, at) if other not in origins]


def too_few_others(origins: Sequence[int], targets: Sequence[int]) -> tuple[int, int] | None:
    """(tokens that it loses, others that there are) of the first target that has too few others to draw from."""
    counts = ((sum(origin < at for origin in origins), len(_others(origins, at))) for at in targets)
    return next((each for each in counts if each[1] < each[0]), None)


def edges_between(origins: Sequence[int], targets: Sequence[int], draw: int = -1) -> tuple[Edge, ...]:
    """The edges from each target to the origins before it, in order.

    A token never loses the edge to itself, nor are there edges to later ones. draw: of random edges, its number (-1:
    none). It has as many at each target, to other earlier tokens but the first of the sequence, on which much attention
    rests in most models; there is none at all where a target has too few others. Told by the places alone, so it is
    the same in all prompts of one shape.
    """
    pairs: list[Edge] = []
    if draw >= 0 and too_few_others(origins, targets):
        return ()
    for at in targets:
        cut = [origin for origin in origins if origin < at]
        if draw >= 0 and cut:
            others = _others(origins, at)
            seed = zlib.crc32(f"{draw} {at} {cut}".encode())
            cut = sorted(random.Random(seed).sample(others, len(cut)))
        pairs += [(at, origin) for origin in cut]
    return tuple(pairs)
