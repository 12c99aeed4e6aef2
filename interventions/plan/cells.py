"""Cells: counterfactuals as data, and what each result row says about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from patchboard.spec.sites import SITES

STATE = "@"
"""An operand that begins so is no vector: it is a state of another run in the same forward pass."""
OWN = "self"
OWN_STATE = STATE + OWN
"""Operand of the self control: the token's own state in the clean run."""
CLEAN = "clean"
"""How a spec calls the prompt's own unedited run, whose states an edit may put back."""
ATTENTION = "attention"
"""Site of edits of the mask."""
SAME = "same_task"
"""Source of states: the next query of the same task."""
LENT_STATE = STATE + STATE
"""Operand of a receiver: the state that its edit's ``lender`` has there."""


class StateRead(NamedTuple):
    """Where the state that an edit puts in is read, if not at the edit's own place."""

    layer: int
    site: str
    position: str  # JSON text of the spec's position
    filled: bool = False
    """Of different numbers of tokens the shorter ends: further tokens take the source's last state."""


@dataclass(frozen=True)
class Lender:
    """A run of the same prompt, edited, that is not measured: receivers of path patching are given its states."""

    senders: tuple[Edit, ...]
    frozen: tuple[Edit, ...] = ()
    """What is put back to the clean run's states on the way to the receivers."""

    @property
    def edits(self) -> tuple[Edit, ...]:
        return (*self.senders, *self.frozen)


@dataclass(frozen=True)
class Edit:
    """One edit at one block; ``operand`` names a recipe's key, a state of another run, or nothing."""

    op: str
    site: str
    layer: int
    position: str  # JSON text of the spec's position
    strength: float
    operand: str = ""
    head: int = -1  # at sites by head
    neurons: tuple[int, ...] = ()  # edited together, at sites by neuron; none: all of them
    read: StateRead | None = None  # of an edit that takes a state
    origin: str = ""
    """Of edges, at site ATTENTION: the position that is not attended to; ``position`` is kept from it."""
    heads: tuple[int, ...] = ()  # in which edges are cut; none: all of them
    draw: int = -1  # of edges from random other tokens: its number
    lender: Lender | None = None  # of a receiver's edit
    seed: int = -1  # of noise: what decides its draw beside the query and the token
    keys: int = 0  # of a pattern: to how many tokens its weights are told by one pass
    subspace: str = ""  # of an edit that takes a state in part: key of the subspace whose part it is


def reads_later(edit: Edit) -> bool:
    """Whether it puts in a state that is computed only behind the place where it is put."""
    order = SITES.index
    return edit.read is not None and (edit.read.layer, order(edit.read.site)) > (edit.layer, order(edit.site))


def source_of(edit: Edit) -> str:
    """The source in ``Group.donors`` whose states an edit puts in, "" for any other edit."""
    if edit.operand in (OWN_STATE, LENT_STATE):
        return ""
    return edit.operand.removeprefix(STATE) if edit.operand.startswith(STATE) else ""


def lenders_of(edits: Sequence[Edit]) -> tuple[Lender, ...]:
    """The runs whose states these edits are given, each once."""
    return tuple(dict.fromkeys(edit.lender for edit in edits if edit.lender))


def with_lent(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """The edits, and those of the runs that lend them states."""
    return (*edits, *chain.from_iterable(lender.edits for lender in lenders_of(edits)))


@dataclass(frozen=True)
class Cell:
    """One counterfactual of one task's prompts: edits, and the fields that its result rows carry."""

    intervention: str
    control: str
    vector_task: str
    edits: tuple[Edit, ...]
    layer: int
    """Where it stands on the axis of layers: its earliest edited block, or the last of ``layers: {upto: …}``."""
    swept: tuple[tuple[str, Any], ...]
    converts_to: str = ""
    """Another task, or a source of the rows, whose answers this cell is scored against as well."""
    source: str = ""
    """In ``Group.donors``, the one source whose run this cell can be held against: that of its states, of a control
    without any that of the intervention's."""

    texts: str | None = None
    """Texts of no task that it is made in, as ``ControlCell`` has them; None: the task's prompts."""
    form: tuple[Edit, ...] = ()
    """Of a cell that keeps every head, and so has no edits: those that it would have if it kept none. They name its
    row."""

    @property
    def row(self) -> dict[str, Any]:
        """The columns of store.schema.CELL that do not depend on the prompts; places are the sender's, of a path."""
        edits = self.edits or self.form
        told = [told for edit in edits for told in (edit.lender.senders if edit.lender else [edit])]
        layers = sorted({edit.layer for edit in told})
        first = told[0]
        return {
            "intervention": self.intervention,
            "control": self.control,
            "vector_task": self.vector_task,
            "op": _joined([e.op for e in edits]),
            "site": _joined([e.site for e in told]),
            "layer": self.layer,
            "layers": ",".join(map(str, layers)),
            "head": first.head if len({e.head for e in told}) == 1 else -1,
            "position": _joined([place_label(e) for e in told]),
            "strength": first.strength,
        }


def _joined(values: list[str]) -> str:
    return "+".join(dict.fromkeys(values))


def place_label(edit: Edit) -> str:
    """The edited tokens, as result rows call them: ``last``, of edges ``query -> last``."""
    at = position_label(edit.position)
    return f"{position_label(edit.origin)} -> {at}" if edit.origin else at


def position_label(position: str) -> str:
    value = json.loads(position)
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
