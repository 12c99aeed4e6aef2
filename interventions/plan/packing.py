"""Packed sequences: the clean prompt, then one suffix copy for each counterfactual.

If a copy's earliest edited token is at position p, causality makes everything before p equal to the
clean prompt, so the copy holds only positions p … end and sees the clean tokens before p. One
sequence of S + C tokens then does the work of C passes of S tokens, exactly (DESIGN, section 3).

Three ways, one layout type:
``packed``     copies stand behind the clean prompt from the first block on;
``wavefront``  a copy joins at the first block that its edits change, with the clean states as its own;
``rows``       one whole sequence a copy, nothing shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from interventions.plan.cells import Edit, source_of
from interventions.plan.layout import PAD, ROOT, EditToken, Join, Layout, Read
from interventions.plan.model import Copy, Way
from interventions.plan.suffix import Suffix, clean_tokens, first_block, positions_of, shared_tokens, suffix_of
from tasks.prompts import Prompt


@dataclass
class _Segment:
    """Tokens of one row that belong together; ``col`` is set when the row's columns are given out."""

    row: int
    number: int
    home: int
    tokens: tuple[int, ...]  # those that the segment owns
    start: int
    join: int = 0
    bases: tuple[tuple[_Segment, int, int], ...] = ()
    """(segment, from position, to position) whose states the tokens take where they join."""
    col: int = -1

    def at(self, position: int) -> tuple[int, int]:
        assert self.col >= 0 and position >= self.start
        return self.row, self.col + position - self.start


class _Home:
    """One prompt's clean run: the segments that hold its positions, and where copies of it are put."""

    def __init__(self, clean: _Segment, prefix: _Segment | None):
        self.clean, self.prefix = clean, prefix

    def at(self, position: int) -> tuple[int, int]:
        if self.prefix is not None and position < self.clean.start:
            return self.prefix.at(position)
        return self.clean.at(position)

    def bases(self, start: int, stop: int) -> tuple[tuple[_Segment, int, int], ...]:
        """Segments that hold the clean states of positions start … stop."""
        split = self.clean.start if self.prefix is not None else 0
        parts = [(self.prefix, start, min(stop, split)), (self.clean, max(start, split), stop)]
        return tuple((segment, a, b) for segment, a, b in parts if segment is not None and a < b)


def lay_out(
    prompts: Sequence[Prompt], foils: Sequence[int], copies: Sequence[Copy], way: Way,
    prefix: int = 0, together: int = 1, donors: Mapping[str, Sequence[Prompt]] | None = None,
) -> Layout:  # fmt: skip
    """The layout of every copy of every prompt; a clean run of each prompt is always in it.

    Two copies of one prompt that differ only in a target of one token share their computation.
    Reads of copies that cannot be computed are absent. prefix: first tokens that all prompts have in
    common; ``together`` prompts then share a sequence that holds them once (not in rows). donors: for each
    source that an operand names, the prompts (one for each of ``prompts``) whose clean states are put in.
    """
    builder = _Builder(way, prefix if way != "rows" and together > 1 else 0, together, donors or {})
    return builder.build(prompts, foils, copies)


def _given(donor: Prompt, edit: Edit) -> tuple[int, ...]:
    """Positions of the donor whose states the edit puts in, in order."""
    return positions_of(donor, edit.position, len(clean_tokens(donor)))


class _Builder:
    """Segments first, then columns, then edits and reads that need the columns."""

    def __init__(self, way: Way, prefix: int, together: int, donors: Mapping[str, Sequence[Prompt]]):
        self.way, self.prefix, self.together, self.donors = way, prefix, together, donors
        self.rows: list[list[_Segment]] = []
        self.given: dict[tuple[str, int], _Home] = {}  # (source, prompt) -> the donor's clean run

    def build(self, prompts: Sequence[Prompt], foils: Sequence[int], copies: Sequence[Copy]) -> Layout:
        kept = [(i, prompt) for i, prompt in enumerate(prompts) if not prompt.excluded]
        homes = {i: self._home(prompt, n) for n, (i, prompt) in enumerate(kept)}
        placed = {i: self._copies(i, prompt, homes[i], copies) for i, prompt in kept}
        layout = self._columns()
        for i, prompt in kept:
            edited: set[int] = set()
            for c, (suffix, segment) in placed[i].items():
                if segment is not None and id(segment) not in edited:
                    edited.add(id(segment))
                    layout.edits += [
                        EditToken(edit, order, c, *segment.at(at), self._source(edit, i, homes[i], n, at))
                        for edit, order, where in suffix.edited
                        for n, at in enumerate(where)
                    ]
                clean = homes[i].at(prompt.last)
                for j, target in enumerate(suffix.answer):
                    at = prompt.last + j
                    own = segment is not None and at >= segment.start
                    place = segment.at(at) if own and segment else homes[i].at(at)
                    layout.reads.append(Read(i, c, *place, target, foils[i], clean, first=j == 0))
        return layout

    def _home(self, prompt: Prompt, number: int) -> _Home:
        tokens = clean_tokens(prompt)
        if not self.prefix:
            return _Home(self._row(tokens), None)
        # clean runs come before all other rows, so the last row is the one being filled
        root = self._row(tokens[: self.prefix]) if number % self.together == 0 else self.rows[-1][0]
        return _Home(self._append(root.row, ROOT, tokens[self.prefix :], self.prefix), root)

    def _row(self, tokens: tuple[int, ...], start: int = 0) -> _Segment:
        root = _Segment(len(self.rows), ROOT, ROOT, tokens, start)
        self.rows.append([root])
        return root

    def _append(self, row: int, home: int, tokens: tuple[int, ...], start: int) -> _Segment:
        segment = _Segment(row, len(self.rows[row]), home, tokens, start)
        self.rows[row].append(segment)
        return segment

    def _copies(
        self, i: int, prompt: Prompt, home: _Home, copies: Sequence[Copy]
    ) -> dict[int, tuple[Suffix, _Segment | None]]:
        """Copy -> its suffix and the segment that computes it (None: all of it is in the clean run)."""
        found = {c: suffix for c, copy in enumerate(copies) if (suffix := suffix_of(prompt, copy)) is not None}
        suffixes = {c: suffix for c, suffix in found.items() if self._find_donors(i, suffix)}
        made: dict[tuple, _Segment] = {}
        # unedited runs under another answer come first: edited ones take their states from them
        for c in sorted(suffixes, key=lambda c: bool(copies[c].edits)):
            suffix = suffixes[c]
            key = (copies[c].edits, suffix.tokens)
            if suffix.length and key not in made:
                made[key] = self._segment(prompt, home, copies[c], suffix, made.get(((), suffix.tokens)))
        return {c: (suffix, made.get((copies[c].edits, suffix.tokens))) for c, suffix in suffixes.items()}

    def _find_donors(self, i: int, suffix: Suffix) -> bool:
        """Put the donors' clean runs into rows; False where one cannot give every edited token its state."""
        for edit, _, where in suffix.edited:
            source = source_of(edit)
            if source:
                donor = self.donors[source][i]
                if donor.excluded or len(_given(donor, edit)) != len(where):
                    return False
                if (source, i) not in self.given:
                    self.given[source, i] = _Home(self._row(clean_tokens(donor)), None)
        return True

    def _source(self, edit: Edit, i: int, home: _Home, n: int, at: int) -> tuple[int, int]:
        """Where the state stands that the edit's n-th token, at position ``at``, may be given."""
        source = source_of(edit)
        if not source:
            return home.at(at)
        return self.given[source, i].at(_given(self.donors[source][i], edit)[n])

    def _segment(self, prompt: Prompt, home: _Home, copy: Copy, suffix: Suffix, unedited: _Segment | None) -> _Segment:
        if self.way == "rows":
            return self._row(suffix.tokens)
        segment = self._append(home.clean.row, home.clean.number, suffix.tokens[suffix.start :], suffix.start)
        shared = shared_tokens(prompt, suffix.tokens)
        if self.way == "wavefront" and copy.edits and (shared == len(suffix.tokens) or unedited is not None):
            segment.join = first_block(copy)
            segment.bases = home.bases(suffix.start, min(shared, len(suffix.tokens)))
            if unedited is not None:
                segment.bases += ((unedited, max(shared, suffix.start), len(suffix.tokens)),)
        return segment

    def _columns(self) -> Layout:
        """Give every segment its columns: those that join together side by side, behind all that join before."""
        joins = sorted({segment.join for row in self.rows for segment in row} | {0})
        widths = [
            max((sum(len(s.tokens) for s in row if s.join == join) for row in self.rows), default=0) for join in joins
        ]
        ends = np.cumsum(widths).tolist()
        shape = (len(self.rows), ends[-1])
        tokens, positions, homes, starts, source = (np.zeros(shape, np.int64) for _ in range(5))
        segments = np.full(shape, PAD, np.int64)
        for r, row in enumerate(self.rows):
            for join, end, width in zip(joins, ends, widths, strict=True):
                col = end - width
                for s in (s for s in row if s.join == join):
                    s.col = col
                    here = slice(col, col + len(s.tokens))
                    tokens[r, here] = s.tokens
                    positions[r, here] = np.arange(s.start, s.start + len(s.tokens))
                    segments[r, here], homes[r, here], starts[r, here] = s.number, s.home, s.start
                    source[r, here] = [base.at(p)[1] for base, a, b in s.bases for p in range(a, b)] or 0
                    col = here.stop
        joined = [
            Join(join, end - width, end, source[:, end - width : end])
            for join, end, width in zip(joins, ends, widths, strict=True)
            if join
        ]
        return Layout(tokens, positions, segments, homes, starts, joined)
