"""What a unit's rows are made of: tokens that belong together, and the clean runs that copies stand behind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Segment:
    """Tokens of one row that belong together; ``col`` is set when the row's columns are given out."""

    row: int
    number: int
    home: int
    tokens: tuple[int, ...]  # those that the segment owns
    start: int
    owner: int  # whose tokens these are
    join: int = 0
    bases: tuple[tuple[Segment, int, int], ...] = ()
    """(segment, from position, to position) whose states the tokens take where they join."""
    col: int = -1

    def at(self, position: int) -> tuple[int, int]:
        assert self.col >= 0 and position >= self.start
        return self.row, self.col + position - self.start


class Home:
    """One prompt's clean run: the segments that hold its positions, and where copies of it are put."""

    def __init__(self, clean: Segment, prefix: Segment | None):
        self.clean, self.prefix = clean, prefix

    def at(self, position: int) -> tuple[int, int]:
        if self.prefix is not None and position < self.clean.start:
            return self.prefix.at(position)
        return self.clean.at(position)

    def bases(self, start: int, stop: int) -> tuple[tuple[Segment, int, int], ...]:
        """Segments that hold the clean states of positions start … stop."""
        split = self.clean.start if self.prefix is not None else 0
        parts = [(self.prefix, start, min(stop, split)), (self.clean, max(start, split), stop)]
        return tuple((segment, a, b) for segment, a, b in parts if segment is not None and a < b)
