"""Packed sequences: the clean prompt, then one suffix copy for each counterfactual.

If a copy's earliest edited token is at position p, causality makes everything before p equal to the
clean prompt, so the copy holds only positions p … end and sees the clean tokens before p. One
sequence of S + C tokens then does the work of C passes of S tokens, exactly (DESIGN, section 3).
The same layout type also says "rows": one whole sequence a copy, no sharing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from interventions.plan.cells import OWN_STATE, Edit
from interventions.plan.model import Copy
from tasks.prompts import Prompt

PAD = -1


@dataclass(frozen=True)
class EditToken:
    """One edited token: which edit, at which (row, column), and where its own clean state stands."""

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


@dataclass
class Layout:
    """A batch as plain data: what to feed, what to edit, what to read.

    tokens, positions, segments, starts: [batch, seq]. A segment is a prompt's clean run (0) or one
    of its copies (1 …), PAD behind the end; ``starts`` is the first position that a copy owns.
    """

    tokens: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    starts: np.ndarray
    edits: list[EditToken] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    @property
    def packed(self) -> bool:
        return bool((self.segments > 0).any())

    @property
    def computed_tokens(self) -> int:
        return int((self.segments != PAD).sum())


@lru_cache
def _names(position: str) -> tuple[str | int, ...]:
    value = json.loads(position)
    return tuple(value) if isinstance(value, list) else (value,)


def positions_of(prompt: Prompt, position: str, length: int) -> tuple[int, ...]:
    """Token indices of a spec position (JSON text) in a sequence of ``length`` tokens.

    `answer` means the forced answer tokens of that sequence. Integers count the prompt's tokens,
    negative ones from its end; one that the prompt doesn't have names no token.
    """
    found: set[int] = set()
    size = len(prompt.token_ids)
    for name in _names(position):
        if isinstance(name, int):
            found.update([name + size if name < 0 else name] if -size <= name < size else [])
        elif name == "answer":
            found.update(range(size, length))
        else:
            found.update(prompt.positions[name])
    return tuple(sorted(found))


@dataclass(frozen=True)
class Suffix:
    """What one copy computes of one prompt: tokens from ``start`` on; empty where nothing differs."""

    tokens: tuple[int, ...]  # the whole sequence: prompt and forced answer tokens
    start: int
    edited: tuple[tuple[Edit, int, tuple[int, ...]], ...]  # each edit, its order, its token indices
    answer: tuple[int, ...]


def suffix_of(prompt: Prompt, copy: Copy) -> Suffix | None:
    """The copy's suffix, or None where it cannot be computed for this prompt.

    None: the prompt is excluded, has no answer under the copy's target, or an edit's position
    names no token of it.
    """
    if prompt.excluded or (copy.target and copy.target not in prompt.alternatives):
        return None
    assert not (copy.target and any(edit.operand == OWN_STATE for edit in copy.edits)), (
        "self is scored on its own answer"
    )
    answer = prompt.alternatives[copy.target] if copy.target else prompt.answer_ids
    tokens = prompt.token_ids + answer[:-1]
    edited = tuple(
        (edit, _order(copy.edits, i), positions_of(prompt, edit.position, len(tokens)))
        for i, edit in enumerate(copy.edits)
    )
    if any(not at for _, _, at in edited):
        return None
    clean = prompt.token_ids + prompt.answer_ids[:-1]
    shared = next(
        (i for i, (a, b) in enumerate(zip(tokens, clean, strict=False)) if a != b), min(len(tokens), len(clean))
    )
    start = min([shared, *(at[0] for _, _, at in edited)])
    return Suffix(tokens, start, edited, answer)


def _order(edits: tuple[Edit, ...], index: int) -> int:
    place = (edits[index].layer, edits[index].site)
    return sum((e.layer, e.site) == place for e in edits[:index])


def lay_out(prompts: Sequence[Prompt], foils: Sequence[int], copies: Sequence[Copy], packed: bool) -> Layout:
    """The layout of every copy of every prompt; a clean run of each prompt is always in it.

    Two copies of one prompt that differ only in a target of one token share their computation.
    Reads of copies that cannot be computed are absent.
    """
    rows: list[_Row] = []
    edits: list[EditToken] = []
    reads: list[Read] = []
    for i, (prompt, foil) in enumerate(zip(prompts, foils, strict=True)):
        if prompt.excluded:
            continue
        home = _Row()
        clean_tokens = prompt.token_ids + prompt.answer_ids[:-1]
        home.append(clean_tokens, 0, 0)
        home_index = len(rows)
        rows.append(home)
        last = prompt.last
        placed: dict[tuple, tuple[int, int]] = {}
        for c, copy in enumerate(copies):
            suffix = suffix_of(prompt, copy)
            if suffix is None:
                continue
            key = (copy.edits, suffix.tokens)
            row, base = home_index, 0
            if suffix.start < len(suffix.tokens):
                if key not in placed:
                    if packed:
                        base = home.append(suffix.tokens[suffix.start :], suffix.start, home.segments_used)
                        placed[key] = (home_index, base - suffix.start)
                    else:
                        rows.append(_Row())
                        rows[-1].append(suffix.tokens, 0, 0)
                        placed[key] = (len(rows) - 1, 0)
                    row, base = placed[key]
                    edits += [
                        EditToken(edit, order, c, row, base + at, (home_index, at))
                        for edit, order, where in suffix.edited
                        for at in where
                    ]
                row, base = placed[key]
            for j, target in enumerate(suffix.answer):
                at = last + j
                shared = packed and at < suffix.start
                place = (home_index, at) if shared else (row, base + at)
                reads.append(Read(i, c, *place, target, foil, (home_index, last), first=j == 0))
    return _stack(rows, edits, reads)


class _Row:
    """One sequence being filled: token, position, segment and start of each column."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.segments: list[int] = []
        self.starts: list[int] = []
        self.segments_used = 0

    def append(self, tokens: Sequence[int], start: int, segment: int) -> int:
        """Put tokens of positions ``start`` … behind what is there; returns the first one's column."""
        base = len(self.tokens)
        self.tokens += tokens
        self.positions += range(start, start + len(tokens))
        self.segments += [segment] * len(tokens)
        self.starts += [start] * len(tokens)
        self.segments_used = segment + 1
        return base


def _stack(rows: list[_Row], edits: list[EditToken], reads: list[Read]) -> Layout:
    width = max((len(row.tokens) for row in rows), default=0)

    def padded(name: str, fill: int) -> np.ndarray:
        out = np.full((len(rows), width), fill, dtype=np.int64)
        for i, row in enumerate(rows):
            values = getattr(row, name)
            out[i, : len(values)] = values
        return out

    layout = Layout(padded("tokens", 0), padded("positions", 0), padded("segments", PAD), padded("starts", 0))
    layout.edits, layout.reads = edits, reads
    return layout
