"""The edits of a layout as one table: which edits its copies have, and the tokens that each is made at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from patchboard.plan.cells import Edit, lenders_of, reads_later
from patchboard.plan.model import Counterfactual
from patchboard.plan.suffix import same_runs

LENT = -1
"""In place of a copy's number: the edits of a run that only lends its states to copies."""
_BEHIND = 1 << 20
"""Added to the order of a lending run's edits: copies are given its state before it is edited there."""


class CopyEdit(NamedTuple):
    """An edit of a copy. order: edits of the same copy at the same block and site that come before it."""

    edit: Edit
    order: int
    copy: int


@dataclass(frozen=True, eq=False)
class CopyEdits:
    """What is edited in a pass, whatever its prompts are. Compared by identity: what follows from it alone is found
    once for all packs of the same copies (``engine.edit_groups``).

    starts [copy]: where in ``each`` its edits begin; starts_of_lent: so of the edits of runs that lend states. runs
    [copy]: as of ``same_runs``.
    """

    each: tuple[CopyEdit, ...] = ()
    starts: Sequence[int] = ()
    runs: Sequence[int] = ()
    starts_of_lent: Mapping[tuple[Edit, ...], int] = field(default_factory=dict)

    @staticmethod
    def of(copies: Sequence[Counterfactual]) -> CopyEdits:
        each: list[CopyEdit] = []

        def add(edits: tuple[Edit, ...], copy: int, behind: int = 0) -> int:
            start = len(each)
            each.extend(CopyEdit(e, order + behind, copy) for e, order in zip(edits, _orders(edits), strict=True))
            return start

        starts = [add(copy.edits, c) for c, copy in enumerate(copies)]
        lenders = lenders_of([edit for copy in copies for edit in copy.edits])
        lent = {edits: add(edits, LENT, _BEHIND) for edits in dict.fromkeys(lender.edits for lender in lenders)}
        return CopyEdits(tuple(each), starts, same_runs(copies), lent)

    @cached_property
    def highest(self) -> int:
        """The largest number of a copy that has edits; -1 where none has."""
        return max((one.copy for one in self.each), default=-1)

    def such(self, holds: Callable[[Edit], object]) -> np.ndarray:
        """[edit] bool, of which it holds."""
        return np.fromiter((bool(holds(one.edit)) for one in self.each), bool, len(self.each))

    @cached_property
    def later(self) -> np.ndarray:
        """[edit] bool: those that put in a state that is computed only behind the place where it is put."""
        return self.such(reads_later)

    @cached_property
    def patterns(self) -> np.ndarray:
        """[edit] bool: those of attention weights."""
        return self.such(lambda edit: edit.keys)

    @cached_property
    def cutting(self) -> np.ndarray:
        """[edit] bool: those of edges of attention."""
        return self.such(lambda edit: edit.origin)


class EditToken(NamedTuple):
    """One edited token: which edit, at which (row, column), and where the state to put there stands."""

    edit: Edit
    order: int
    copy: int
    row: int
    col: int
    source: tuple[int, int]


FIELDS = ("of", "rows", "cols", "source_rows", "source_cols", "prompts")
"""Of an edited token: its edit's index among the copies' edits, where it stands, where the state stands that it may be
given, and index within the layout of the prompt that it is of."""


@dataclass(frozen=True)
class EditTable:
    """The tokens at which the copies' edits are made. tokens [``FIELDS``, token]; an edit may have none.

    Of edges of attention an entry is an edge, and its source the token that is no longer attended to.
    """

    edits: CopyEdits
    tokens: np.ndarray

    @staticmethod
    def made(edits: CopyEdits, tokens: Sequence[tuple[int, ...]]) -> EditTable:
        """tokens: one after the other, as ``FIELDS``."""
        return EditTable(edits, np.array(tokens, np.int64).reshape(-1, len(FIELDS)).T)

    @property
    def present(self) -> list[Edit]:
        """The edits that are made at any token."""
        return list(dict.fromkeys(self.edits.each[i].edit for i in np.unique(self.tokens[0]).tolist()))

    def where(self, chosen: np.ndarray) -> EditTable:
        """Of these edits alone; chosen [edit] bool."""
        return EditTable(self.edits, self.tokens[:, chosen[self.tokens[0]]])

    def __iter__(self) -> Iterator[EditToken]:
        for edit, row, col, source_row, source_col, _ in self.tokens.T.tolist():
            made = self.edits.each[edit]
            yield EditToken(made.edit, made.order, made.copy, row, col, (source_row, source_col))

    def __len__(self) -> int:
        return self.tokens.shape[1]


NO_EDITS = EditTable.made(CopyEdits(), ())


def _orders(edits: tuple[Edit, ...]) -> list[int]:
    """Of each edit, how many of those before it are made at the same place."""
    if len(edits) < 2:
        return [0] * len(edits)
    before: Counter[tuple[int, str]] = Counter()
    orders = []
    for edit in edits:
        orders.append(before[edit.layer, edit.site])
        before[edit.layer, edit.site] += 1
    return orders
