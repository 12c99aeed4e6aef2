"""A batch as plain data: what one forward pass is fed, what it edits and what it reads."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from interventions.plan.cells import Edit

PAD = -1
ROOT = 0
"""Segment of the tokens that every other segment of a row may see: the clean run, or a shared prefix."""


@dataclass(frozen=True)
class EditToken:
    """One edited token: which edit, at which (row, column), and where the state to put there stands."""

    edit: Edit
    order: int
    """Edits of the same copy at the same block and site that come before it."""
    copy: int
    row: int
    col: int
    source: tuple[int, int]


@dataclass(frozen=True)
class Read:
    """One next-token distribution that is measured, as (row, column) and what it is held against."""

    prompt: int  # index within the layout
    copy: int  # index of the copy asked for
    row: int
    col: int
    target: int
    foil: int
    clean: tuple[int, int]  # where the clean run's distribution for the same token stands
    first: bool  # the answer's first token


@dataclass(frozen=True)
class Join:
    """Columns start … stop enter at the input of block ``layer`` (the number of blocks: the final norm).

    source [batch, stop - start]: the column whose state each takes.
    """

    layer: int
    start: int
    stop: int
    source: np.ndarray


@dataclass
class Layout:
    """A batch as plain data: what to feed, what to edit, what to read.

    tokens, positions, segments, homes, starts: [batch, seq]. A segment is a row's ROOT, or a prompt's clean
    run behind a shared prefix, or a copy; ``homes`` is the segment of the clean run that a copy belongs to;
    PAD where there is nothing. ``starts`` is the first position that a segment owns.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    homes: np.ndarray
    starts: np.ndarray
    joins: list[Join] = field(default_factory=list)
    edits: list[EditToken] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    @property
    def packed(self) -> bool:
        return bool((self.segments > ROOT).any())

    @property
    def first_width(self) -> int:
        """Columns that enter at the first block."""
        return self.joins[0].start if self.joins else self.tokens.shape[1]

    @property
    def computed_tokens(self) -> int:
        return int((self.segments != PAD).sum())

    def token_layers(self, layers: int) -> int:
        """Tokens times the blocks that each goes through, padding left out."""
        late = sum(join.layer * int((self.segments[:, join.start : join.stop] != PAD).sum()) for join in self.joins)
        return self.computed_tokens * layers - late
