"""The layout of one unit: a prompt with its copies, or several prompts that share a sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from patchboard.plan.cells import OWN_STATE, Edit, source_of
from patchboard.plan.edit_table import CopyEdits, EditTable
from patchboard.plan.layout import PAD, ROOT, Join, Layout, Read, Reads
from patchboard.plan.model import Counterfactual, EngineKind
from patchboard.plan.segments import Home, Segment
from patchboard.plan.suffix import (
    UNEDITED,
    Suffix,
    clean_tokens,
    edges_of,
    first_block,
    positions_of,
    shared_tokens,
    suffix_of,
)
from patchboard.spec.sites import PATTERN
from patchboard.tasks.prompt import Prompt


def read_positions(donor: Prompt, edit: Edit, wanted: int) -> tuple[int, ...]:
    """Positions of the donor whose states the edit puts in, in order: ``wanted`` of them, or as many as it has."""
    at = positions_of(donor, edit.read.position if edit.read else edit.position, len(clean_tokens(donor)))
    return (at + at[-1:] * wanted)[:wanted] if edit.read and edit.read.filled else at


class UnitBuilder:
    """Segments first, then columns, then edits and reads that need the columns.

    prompts: those of the unit, with the first ``prefix`` tokens in common if there are several. donors: for
    each source that an operand names, the prompt that gives states to each of ``prompts``. edits: the copies'.
    """

    def __init__(
        self, prompts: Sequence[Prompt], copies: Sequence[Counterfactual], way: EngineKind, prefix: int,
        donors: Mapping[str, Sequence[Prompt]], edits: CopyEdits,
    ):  # fmt: skip
        self.prompts, self.copies, self.way, self.prefix, self.donors = prompts, copies, way, prefix, donors
        self.edits = edits
        self.edited: list[tuple[int, ...]] = []
        """Tokens at which edits are made, as ``EditTable`` has them."""
        self.apart = way == "rows" or bool(edits.patterns.any() or edits.later.any())
        """Whether unedited runs of others have rows of their own: some are to be run alone, before all others."""
        self.homes: list[Home] = []
        self.rows: list[list[Segment]] = []
        self.donor_homes: dict[tuple[str, int], Home] = {}  # (source, prompt) -> the donor's clean run
        self.own: dict[tuple[tuple[int, ...], int], Home] = {}
        """(tokens, prompt) -> the unedited run under a further answer, where a copy is given states of that answer."""
        self.lent: dict[tuple[int, tuple[Edit, ...], tuple[int, ...]], tuple[Suffix, Segment]] = {}
        """(prompt, a lender's edits, tokens) -> the run that lends copies its states."""
        self.owners_of: list[tuple[str, int]] = []
        """Whose tokens the rows hold: ("", prompt) or (source, prompt) for a donor; a segment's ``owner`` is an
        index into it."""

    def build(self) -> Layout:
        """The layout; foils of its reads are -1."""
        homes = self.homes = [self._home(i, prompt) for i, prompt in enumerate(self.prompts)]
        placed = [
            self._copies(i, prompt, home) for i, (prompt, home) in enumerate(zip(self.prompts, homes, strict=True))
        ]
        layout = self._columns()
        reads: list[Read] = []
        for i, (prompt, home) in enumerate(zip(self.prompts, homes, strict=True)):
            edited: set[int] = set()
            for c, (suffix, segment) in placed[i].items():
                if segment is not None and id(segment) not in edited:
                    edited.add(id(segment))
                    self._edit(self.edits.starts[c], segment, i, suffix, home)
                clean = self._reference(self.copies[c].against, i, home)
                for j, target in enumerate(suffix.answer):
                    at = prompt.last + j
                    place = segment.at(at) if segment is not None and at >= segment.start else home.at(at)
                    reads.append(Read(i, c, j, *place, target, -1, *clean))
        for (i, edits, _), (suffix, segment) in self.lent.items():
            self._edit(self.edits.starts_of_lent[edits], segment, i, suffix, homes[i])
        layout.edits, layout.reads = EditTable.made(self.edits, self.edited), Reads.of(reads)
        return layout

    def _edit(self, start: int, segment: Segment, i: int, suffix: Suffix, home: Home) -> None:
        """Put down the tokens of a run's edits, which begin at ``start`` among those of all copies."""
        for number, (edit, where) in enumerate(suffix.edited, start):
            places = self._edges if edit.origin else self._states
            pairs = places(edit, segment, i, suffix, home, where)
            self.edited += [(number, *token, *source, i) for token, source in pairs]

    def _reference(self, source: str, i: int, home: Home) -> tuple[int, int]:
        """Where the distribution stands that a prompt's are compared with: the clean run's, or that of a source."""
        return self.donor_homes[source, i].at(self.donors[source][i].last) if source else home.at(self.prompts[i].last)

    def _edges(
        self, edit: Edit, segment: Segment, i: int, suffix: Suffix, home: Home, where: tuple[int, ...]
    ) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """For each edge that is cut, where its token stands, and the one that is no longer attended to."""
        edges = edges_of(self.prompts[i], edit, len(suffix.tokens))
        return [(segment.at(at), (segment if origin >= segment.start else home).at(origin)) for at, origin in edges]

    def _states(
        self, edit: Edit, segment: Segment, i: int, suffix: Suffix, home: Home, where: tuple[int, ...]
    ) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """For each edited token, where it stands, and where the state stands that it may be given."""
        own = self.own.get((suffix.tokens, i)) if edit.operand == OWN_STATE else None
        shared = shared_tokens(self.prompts[i], suffix.tokens) if own else 0
        lent = self.lent[i, edit.lender.edits, suffix.tokens][1] if edit.lender else None
        pairs = []
        for at, taken in zip(where, self._taken(edit, i, where), strict=True):
            if lent and taken >= lent.start:
                source = lent.at(taken)
            else:
                source = self._source(edit, i, own if own and taken >= shared else home, taken)
            pairs.append((segment.at(at), source))
        return pairs

    def _home(self, i: int, prompt: Prompt) -> Home:
        tokens = clean_tokens(prompt)
        self.owners_of.append(("", i))
        if not self.prefix:
            return Home(self._row(tokens, i), None)
        root = self._row(tokens[: self.prefix], i) if i == 0 else self.rows[0][0]
        return Home(self._append(root.row, ROOT, tokens[self.prefix :], self.prefix, i), root)

    def _row(self, tokens: tuple[int, ...], owner: int) -> Segment:
        root = Segment(len(self.rows), ROOT, ROOT, tokens, 0, owner)
        self.rows.append([root])
        return root

    def _beside(self, i: int, tokens: tuple[int, ...], owner: int) -> Home:
        """An unedited run of other tokens than the prompt's: behind its clean run, and blind to it. A row of its own
        would be padded to the length that the copies give to that of the prompt."""
        run = self._row(tokens, owner) if self.apart else self._append(self.homes[i].clean.row, ROOT, tokens, 0, owner)
        return Home(run, None)

    def _append(self, row: int, home: int, tokens: tuple[int, ...], start: int, owner: int) -> Segment:
        segment = Segment(row, len(self.rows[row]), home, tokens, start, owner)
        self.rows[row].append(segment)
        return segment

    def _copies(self, i: int, prompt: Prompt, home: Home) -> dict[int, tuple[Suffix, Segment | None]]:
        """Copy -> its suffix and the segment that computes it (None: all of it is in the clean run)."""
        copies, runs = self.copies, self.edits.runs
        computable = {c: suffix for c, copy in enumerate(copies) if (suffix := suffix_of(prompt, copy)) is not None}
        suffixes = {c: suffix for c, suffix in computable.items() if self._find_donors(i, suffix, copies[c])}
        made: dict[tuple, Segment] = {}
        # unedited runs under another answer come first: edited ones take their states from them
        for c in sorted(suffixes, key=lambda c: bool(copies[c].edits)):
            suffix = suffixes[c]
            key, unedited = (runs[c], suffix.tokens), made.get((UNEDITED, suffix.tokens))
            for run, lent in suffix.lent:
                if (i, run.edits, suffix.tokens) not in self.lent:
                    self.lent[i, run.edits, suffix.tokens] = lent, self._segment(i, home, run, lent, unedited)
            if suffix.length and key not in made:
                made[key] = self._segment(i, home, copies[c], suffix, unedited)
        return {c: (suffix, made.get((runs[c], suffix.tokens))) for c, suffix in suffixes.items()}

    def _find_donors(self, i: int, suffix: Suffix, copy: Counterfactual) -> bool:
        """Put the donors' clean runs into the layout, and that of the source it is held against; False where one cannot
        give every edited token its state."""
        if copy.against and not self._find_run(copy.against, i):
            return False
        for edit, where in chain(suffix.edited, *(lent.edited for _, lent in suffix.lent)):
            source = source_of(edit)
            if source and self.donors[source][i].excluded:
                return False
            taken = self._taken(edit, i, where)
            if len(taken) != len(where) or (edit.site == PATTERN and taken != where):
                return False
            if edit.operand == OWN_STATE and max(taken) >= shared_tokens(self.prompts[i], suffix.tokens):
                key = (suffix.tokens, i)
                self.own[key] = self.own.get(key) or self._beside(i, suffix.tokens, i)
            if source:
                self._find_run(source, i)
        return True

    def _find_run(self, source: str, i: int) -> bool:
        """Put a source's clean run into the layout, once; False where it cannot be run."""
        if self.donors[source][i].excluded:
            return False
        if (source, i) not in self.donor_homes:
            self.owners_of.append((source, i))
            tokens = clean_tokens(self.donors[source][i])
            self.donor_homes[source, i] = self._beside(i, tokens, len(self.owners_of) - 1)
        return True

    def _taken(self, edit: Edit, i: int, where: tuple[int, ...]) -> tuple[int, ...]:
        """Positions of the states that the edit's tokens may be given: of its source, or of the prompt itself."""
        source = source_of(edit)
        if not source and edit.read is None:
            return where
        return read_positions(self.donors[source][i] if source else self.prompts[i], edit, len(where))

    def _source(self, edit: Edit, i: int, home: Home, at: int) -> tuple[int, int]:
        """Where the state of that position stands."""
        source = source_of(edit)
        return self.donor_homes[source, i].at(at) if source else home.at(at)

    def _segment(self, i: int, home: Home, copy: Counterfactual, suffix: Suffix, unedited: Segment | None) -> Segment:
        if self.way == "rows":
            return self._row(suffix.tokens, i)
        segment = self._append(home.clean.row, home.clean.number, suffix.tokens[suffix.start :], suffix.start, i)
        shared = shared_tokens(self.prompts[i], suffix.tokens)
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
        tokens, positions, homes, starts, source, owners = (np.zeros(shape, np.int64) for _ in range(6))
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
                    owners[r, here] = s.owner
                    source[r, here] = [base.at(p)[1] for base, a, b in s.bases for p in range(a, b)] or 0
                    col = here.stop
        joined = [
            Join(join, end - width, end, source[:, end - width : end])
            for join, end, width in zip(joins, ends, widths, strict=True)
            if join
        ]
        self.owners = owners
        return Layout(tokens, positions, segments, homes, starts, joined)
