"""Which points a sweep tries: all of a grid, some at random, or what a Bayesian search asks for next."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from patchboard.errors import SpecError
from patchboard.extras import require_extra
from patchboard.sweeps.file import SweepFile
from patchboard.sweeps.parameter import Point

_DRAWS = 1000
"""Draws without a new point after which a random search has tried all there is."""


class Search(Protocol):
    """Fixed verbs: ``ask`` for a point until there is none, ``tell`` what the metric was (None: it failed)."""

    count: int

    def ask(self) -> Point | None: ...

    def tell(self, point: Point, value: float | None) -> None: ...


def search_of(sweep: SweepFile, count: int | None, folder: Path) -> Search:
    """The sweep's search. count: most points; None: as the file says. folder: where a search keeps its state.

    Raises SpecError for a search without an end, and for a grid over what cannot be counted.
    """
    count = count or sweep.cap
    if sweep.method == "grid":
        return _Listed(grid_points(sweep)[:count])
    if count is None:
        what = f"a {sweep.method} search has no end"
        raise SpecError("--count", what, "give --count N, or run_cap in the sweep file")
    if sweep.method == "random":
        return _Listed(random_points(sweep, count))
    require_extra("bayes", SpecError, "method", "bayes")
    from patchboard.sweeps.bayes import Bayes

    return Bayes(sweep, count, folder)


def grid_points(sweep: SweepFile) -> list[Point]:
    """The product of all values, the first parameter slowest. Raises SpecError where a parameter has no grid."""
    values = {parameter.name: parameter.grid() for parameter in sweep.parameters}
    for parameter in sweep.parameters:
        if values[parameter.name] is None:
            what = f"a grid over {parameter.distribution} has no end"
            raise SpecError(f"parameters.{parameter.name}", what, "give values, or method: random")
    listed = [choices or [] for choices in values.values()]
    if math.prod(map(len, listed)) > 100_000:
        raise SpecError("parameters", f"the grid has {math.prod(map(len, listed))} points", "give fewer values")
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*listed)]


def random_points(sweep: SweepFile, count: int) -> list[Point]:
    """``count`` different points, the same ones at every call; fewer where there are no more."""
    points: dict[str, Point] = {}
    for point in _drawn(sweep, np.random.default_rng(0)):
        points.setdefault(str(point), point)
        if len(points) == count:
            break
    return list(points.values())


def _drawn(sweep: SweepFile, random: np.random.Generator) -> Iterator[Point]:
    seen: set[str] = set()
    idle = 0
    while idle < _DRAWS:
        point = {parameter.name: parameter.draw(random) for parameter in sweep.parameters}
        idle = idle + 1 if str(point) in seen else 0
        seen.add(str(point))
        yield point


class _Listed:
    """Points known beforehand."""

    def __init__(self, points: list[Point]):
        self.count = len(points)
        self._left = iter(points)

    def ask(self) -> Point | None:
        return next(self._left, None)

    def tell(self, point: Point, value: float | None) -> None:
        pass
