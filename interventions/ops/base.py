"""What an op is: a pure function of a hidden state, an operand and a strength.

``apply`` names nothing but torch tensors, so that it can run inside a trace on any host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from patchboard.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

OperandKind = Literal["vector", "subspace", "features", "state", "subspace and state", "edges", "path", "noise", "none"]


class SubspaceTensors:
    """A subspace as the engine hands it to an op, on the model's device.

    left [d_model, rank], right [rank, d_model]: left @ right projects onto it; center [d_model].
    Travels to a server by value, as source: so no dataclass, whose methods have none.
    """

    def __init__(self, left: Tensor, right: Tensor, center: Tensor):
        self.left, self.right, self.center = left, right, center

    def to(self, device: Any) -> SubspaceTensors:
        """The same subspace on another device."""
        return SubspaceTensors(self.left.to(device), self.right.to(device), self.center.to(device))

    def part(self, h: Tensor) -> Tensor:
        """What states [edit, d_model] hold of it, about its centre."""
        return (h - self.center) @ self.right.T @ self.left.T


class Op(Protocol):
    """An edit of hidden states."""

    operand: ClassVar[OperandKind]
    """What it needs: a ``vector`` [edit, d_model], a ``subspace``, ``features`` of a dictionary, another prompt's
    ``state``, a pair of ``subspace and state``, ``edges`` of attention (then ``h`` is of the mask and no state), the
    state of a run with a sender (``path``), ``noise`` [edit, d_model] (the engine draws it), or nothing."""
    neutral: ClassVar[float]
    """The strength at which it leaves every state as it is."""
    phrase: ClassVar[str]
    """What it does with {place} and {vector} or {donor}, as reports say it: "adds {vector} to {place}". May be left
    out: ``phrase_of`` makes one from its name."""

    # ``erases: ClassVar[bool] = True`` may stand beside them: it takes something out, and `guardedness` asks what is
    # left

    @staticmethod
    def apply(h: Tensor, operand: Any, strength: Tensor) -> Tensor:
        """h [edit, d_model], strength [edit, 1] -> edited states [edit, d_model]."""
        ...


OPS: Registry[type[Op]] = Registry("op")

_FITTED = ("vector", "subspace", "features")
_WITH = {
    **dict.fromkeys(_FITTED, " with {vector}"),
    "state": " with {donor}",
    "subspace and state": " with {vector} and {donor}",
}


def fitted_part(name: str) -> str:
    """What of an op's operand is fitted: ``vector``, ``subspace``, ``features``, or "" where nothing is.

    >>> fitted_part("add"), fitted_part("swap"), fitted_part("zero")
    ('vector', 'subspace', '')
    """
    operand = OPS.get(name, "op").operand.removesuffix(" and state")
    return operand if operand in _FITTED else ""


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of ``vector:`` that a spec may give it: its ``fitted_part``, and those that it names in ``also``.

    >>> kinds_of("swap"), kinds_of("ablate")
    (('subspace',), ('subspace', 'features'))
    """
    return (fitted_part(name), *getattr(OPS.get(name, "op"), "also", ()))


def phrase_of(name: str) -> str:
    """The op's phrase; one made from its name where it has none, or is not known here.

    >>> phrase_of("add"), phrase_of("rotate")
    ('adds {vector} to {place}', 'applies rotate with {vector} to {place}')
    """
    op = OPS.get(name, "op") if name in OPS else None
    operand = op.operand if op else "vector"
    return getattr(op, "phrase", f"applies {name}{_WITH.get(operand, '')} to {{place}}")
