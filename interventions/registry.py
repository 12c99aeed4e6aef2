"""Name -> object, for every kind of thing that may be added, and where each comes from.

A name is taken once: a second piece of that name is refused with both origins. Unknown names get "did you mean".
The contract tests take their cases from these registries, so one new file is one new set of tests.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

from patchboard.errors import PluginError, SpecError

T = TypeVar("T")


def suggest(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    lowered = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f"did you mean '{lowered[near[0]]}'?"
    return "choose one of " + ", ".join(known) if known else "none is known"


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, in alphabetical order, so that each enrols what it defines.

    path: the package's ``__path__``. What goes wrong in a module is raised as it is.
    """
    for name in sorted(module.name for module in pkgutil.iter_modules(path)):
        importlib.import_module(f"{package}.{name}")


@dataclass(frozen=True)
class Origin:
    """Where a registered piece comes from."""

    kind: Literal["patchboard", "file", "distribution", "session"]
    """Our own package; a plug-in file; an installed distribution's entry point; a notebook or script."""
    name: str
    """As messages and ``patchboard ls`` call it: ``patchboard``, a file's path, ``mylib 1.2``, ``this notebook``."""


OWN = Origin("patchboard", "patchboard")


@dataclass(frozen=True)
class Enrolment(Generic[T]):
    """One entry of a registry."""

    entry: T
    origin: Origin
    definition: str
    """``file:qualified name`` of the piece: one that is defined again replaces itself."""
    piece: Any = None
    """What a user has decorated, where the entry was made of it."""
    hidden: Enrolment[T] | None = None
    """The same piece from another origin, which comes back when this one is removed."""


class Registry(Generic[T]):
    """An insertion-ordered map with decorators: ``@OPS.register("patch")``."""

    all: list[Registry] = []
    """Every registry there is, for what holds of all pieces (``plugin_files``)."""

    def __init__(self, kind: str):
        self.kind = kind
        self._enrolled: dict[str, Enrolment[T]] = {}
        Registry.all.append(self)

    def register(self, name: str) -> Callable[[T], T]:
        """Enrol the decorated object, one of ours, under ``name``; users' go through ``patchboard.register``."""

        def enrol(entry: T) -> T:
            self.enrol(name, Enrolment(entry, OWN, defined_as(entry)))
            return entry

        return enrol

    def enrol(self, name: str, enrolment: Enrolment[T]) -> None:
        """Raises PluginError where another piece has the name; the same piece, defined again, replaces itself."""
        known, origin = self._enrolled.get(name), enrolment.origin
        if known is not None:
            if origin == OWN or known.definition != enrolment.definition:
                both = (
                    f"twice by {origin.name}" if known.origin == origin else f"by {known.origin.name} and {origin.name}"
                )
                raise PluginError(f"{self.kind} '{name}'", f"is registered {both}", "give one of them another name")
            if known.origin != origin:
                enrolment = replace(enrolment, hidden=known)
        self._enrolled[name] = enrolment

    def get(self, name: str, where: str) -> T:
        """The entry of that name. Raises SpecError at ``where`` with a suggestion if there is none."""
        if name not in self._enrolled:
            raise SpecError(where, f"unknown {self.kind} '{name}'", suggest(name, self._enrolled))
        return self._enrolled[name].entry

    def enrolment(self, name: str) -> Enrolment[T]:
        return self._enrolled[name]

    def enrolments(self, kind: str) -> dict[str, Enrolment[T]]:
        """Name -> enrolment of the entries whose origin is of that kind."""
        return {name: each for name, each in self._enrolled.items() if each.origin.kind == kind}

    def remove(self, name: str) -> None:
        hidden = self._enrolled.pop(name).hidden
        if hidden is not None:
            self._enrolled[name] = hidden

    def names(self) -> list[str]:
        return list(self._enrolled)

    def items(self) -> Iterator[tuple[str, T]]:
        return ((name, each.entry) for name, each in self._enrolled.items())

    def __getitem__(self, name: str) -> T:
        return self._enrolled[name].entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._enrolled)

    def __len__(self) -> int:
        return len(self._enrolled)

    def __contains__(self, name: object) -> bool:
        return name in self._enrolled


def defined_as(entry: Any) -> str:
    """``file:qualified name`` of a class or function; of another object, its class's. A notebook is ``__main__``."""
    definition = entry if hasattr(entry, "__qualname__") else type(entry)
    module = definition.__module__
    return f"{getattr(sys.modules.get(module), '__file__', None) or module}:{definition.__qualname__}"
