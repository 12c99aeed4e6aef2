"""Work in pieces, halved where memory runs out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import fits
from patchboard.errors import EngineError

P = TypeVar("P")
REMEDY = "use fewer shots, a smaller --dtype or a larger device"


class Halving(Generic[P]):
    """Does pieces of work. One that runs out of memory is halved, and so are all that follow, until they fit.

    work: does one piece. halved: (piece, n) -> up to 2 ** n pieces of it. is_done: whether a piece needs no work.
    smallest: what is said of a piece that cannot be halved, before where it has no room.
    """

    def __init__(
        self, engine: LocalEngine, work: Callable[[P], object], halved: Callable[[P, int], list[P]],
        smallest: Callable[[P], str], remedy: str = REMEDY, is_done: Callable[[P], bool] = lambda piece: False,
    ):  # fmt: skip
        self.engine, self.work, self.halved, self.is_done = engine, work, halved, is_done
        self.smallest, self.remedy = smallest, remedy
        self.times = 0
        """How often memory has asked for smaller pieces until now."""

    def do(self, piece: P) -> None:
        """Raises EngineError where not even the smallest piece of it has room."""
        pieces = self.halved(piece, self.times)
        while pieces:
            one = pieces.pop(0)
            if self.is_done(one) or fits(self.work, one, self.engine.release):
                continue
            halves = self.halved(one, 1)
            if len(halves) == 1:
                what = f"{self.smallest(one)} in the memory of {self.engine.device}"
                raise EngineError("--device", what, self.remedy)
            self.times += 1
            pieces = halves + [half for rest in pieces for half in self.halved(rest, 1)]


def halved_range(places: range, times: int) -> list[range]:
    """The same places in up to 2 ** times ranges."""
    if times == 0 or len(places) < 2:
        return [places]
    middle = places.start + len(places) // 2
    halves = range(places.start, middle), range(middle, places.stop)
    return [small for half in halves for small in halved_range(half, times - 1)]
