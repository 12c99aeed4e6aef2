"""What a piece must have to be registered: attributes and functions, each measured against what the engine expects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from patchboard.errors import PluginError

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Attribute:
    """A value that a piece must have."""

    name: str
    fits: Callable[[Any], bool]
    expected: str
    """What it must be, for messages: ``one of vector, subspace, features, state, none``."""
    example: str

    def complaint(self, piece: Any) -> tuple[str, str] | None:
        """(what, remedy) where the piece has it not, or as something else."""
        if not hasattr(piece, self.name):
            return f"has no '{self.name}', expected {self.expected}", f"add {self.example}"
        value = getattr(piece, self.name)
        if not self.fits(value):
            return f"its '{self.name}' is {value!r}, expected {self.expected}", f"write {self.example}"
        return None


@dataclass(frozen=True)
class Function:
    """A function that a piece must have, called with these arguments by place."""

    name: str
    parameters: tuple[str, ...]

    @property
    def form(self) -> str:
        return f"{self.name}({', '.join(self.parameters)})"

    def complaint(self, piece: Any) -> tuple[str, str] | None:
        """(what, remedy) where the piece has it not, or it takes other arguments."""
        function = getattr(piece, self.name, None)
        if not callable(function):
            return f"has no function '{self.name}'", f"add def {self.form}"
        return signature_complaint(function, self)


def signature_complaint(function: Callable[..., Any], wanted: Function) -> tuple[str, str] | None:
    """(what, remedy) where ``function`` cannot be called with the wanted arguments by place."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # built in: has none to tell
        return None
    try:
        signature.bind(*wanted.parameters)
    except TypeError:
        found = f"'{wanted.name}' takes {signature}, expected ({', '.join(wanted.parameters)})"
        first = next(iter(signature.parameters), "")
        static = "make it a @staticmethod without self" if first == "self" else f"write def {wanted.form}"
        return found, static
    return None


def check_piece(kind: str, name: str, piece: Any, requirements: Sequence[Attribute | Function]) -> None:
    """Raises PluginError for the first thing that the piece lacks."""
    for requirement in requirements:
        complaint = requirement.complaint(piece)
        if complaint is not None:
            raise PluginError(f"{kind} '{name}'", *complaint)


def check_name(kind: str, name: Any) -> None:
    """Raises PluginError for a name that a spec or a column could not hold."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        what = f"found the name {name!r}, expected letters, digits, _ and -, a letter first"
        raise PluginError(f"register.{kind}", what, f'write it as in @register.{kind}("my_{kind}")')
