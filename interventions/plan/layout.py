"""A batch as plain data: what one forward pass is fed, what it edits and what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np

from patchboard.plan.edit_table import NO_EDITS, EditTable

PAD = -1
ROOT = 0
"""Segment of the tokens that every other segment of a row may see: the clean run, or a shared prefix."""


class Read(NamedTuple):
    """One next-token distribution that is measured, as (row, column) and what it is held against."""

    prompt: int  # index within the layout
    copy: int  # index of the copy asked for
    token: int  # place of the read in its answer
    row: int
    col: int
    target: int
    foil: int
    clean_row: int  # where the clean run's distribution for the answer's first token stands
    clean_col: int


@dataclass(frozen=True)
class Reads:
    """Reads as arrays [read], named as in ``Read``; those of an answer stand together, first token first."""

    prompt: np.ndarray
    copy: np.ndarray
    token: np.ndarray
    row: np.ndarray
    col: np.ndarray
    target: np.ndarray
    foil: np.ndarray
    clean_row: np.ndarray
    clean_col: np.ndarray

    @staticmethod
    def of(reads: Sequence[Read]) -> Reads:
        columns = np.array(reads, dtype=np.int64).reshape(len(reads), len(Read._fields))
        return Reads(*columns.T)

    @staticmethod
    def joined(parts: Sequence[Reads]) -> Reads:
        return Reads(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Reads))) if parts else NONE

    def taken(self, order: np.ndarray) -> Reads:
        """The reads of these indices, in this order."""
        return Reads(*(getattr(self, f.name)[order] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.prompt)

    def __iter__(self) -> Iterator[Read]:
        columns = (getattr(self, f.name).tolist() for f in fields(self))
        return (Read(*values) for values in zip(*columns, strict=True))


NONE = Reads.of([])


def answer_starts(prompt: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """[answer] the read at which each answer begins: an answer's reads stand together, as ``lay_out`` makes them."""
    if not len(prompt):
        return np.array([], int)
    return np.flatnonzero(np.r_[True, (np.diff(prompt) != 0) | (np.diff(copy) != 0)])


@dataclass(frozen=True)
class Join:
    """Columns start … stop enter at the input of block ``layer`` (the number of blocks: the final norm).

    source [batch, stop - start]: the column whose state each takes.
    """

    layer: int
    start: int
    stop: int
    source: np.ndarray


@dataclass(frozen=True)
class TopReads:
    """Reads, each an answer's first, of which the likeliest tokens are kept if their query's number is divided by
    ``every``. reads, prompts [read]: index among the layout's reads, and of the prompt within the layout."""

    count: int
    every: int
    reads: np.ndarray
    prompts: np.ndarray


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
    edits: EditTable = NO_EDITS
    reads: Reads = NONE
    queries: np.ndarray | None = None
    """[prompt] place of each in the group that they are of, by which noise is drawn and tokens are kept."""
    top: TopReads | None = None

    @property
    def packed(self) -> bool:
        return bool((self.segments > ROOT).any())

    @property
    def first_width(self) -> int:
        """Columns that enter at the first block."""
        return self.joins[0].start if self.joins else self.tokens.shape[1]

    @property
    def computed_tokens(self) -> int:
        return int((self.segments != PAD).sum()) + sum(tokens for tokens, _ in self._run_before)

    @property
    def passes_before(self) -> int:
        """Passes of unedited runs alone, before that of all."""
        return sum(passes for _, passes in self._run_before)

    @property
    def _run_before(self) -> list[tuple[int, int]]:
        """(tokens, passes) of the unedited runs that are run before the others: since their states are put in at a
        place before the one where they are computed, and since their attention weights are."""
        edits = self.edits.edits
        later, patterns = self.edits.where(edits.later), self.edits.where(edits.patterns)
        counts = [(int(self._read_by(later).sum()), 1)] if len(later) else []
        if len(patterns):
            keys = next(token.edit.keys for token in patterns)
            read = self._read_by(patterns)
            widths = (read * np.arange(1, read.shape[1] + 1)).max(1)
            passes = 1 + -(-widths // keys)
            counts.append((int((read.sum(1) * passes).sum()), int(passes.max())))
        return counts

    def _read_by(self, edits: EditTable) -> np.ndarray:
        """[batch, seq] bool: the tokens of the unedited runs in which the sources of these edits stand."""
        _, _, _, rows, cols, _ = edits.tokens
        read = np.zeros((len(self.segments), int(self.segments.max()) + 1), bool)
        read[rows, self.segments[rows, cols]] = True
        read[rows, ROOT] = True
        return np.take_along_axis(read, self.segments.clip(0), 1) & (self.segments != PAD)

    def token_layers(self, layers: int) -> int:
        """Tokens times the blocks that each goes through, padding left out."""
        late = sum(join.layer * int((self.segments[:, join.start : join.stop] != PAD).sum()) for join in self.joins)
        return self.computed_tokens * layers - late
