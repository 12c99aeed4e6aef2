"""Name -> object, for every kind of thing a newcomer may add.

Duplicates are refused at import, unknown names get "did you mean". The contract tests take their
cases from these registries, so one new file is one new set of tests.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from patchboard.errors import SpecError

T = TypeVar("T")


def suggest(name: str, known: Iterable[str]) -> str:
    """A remedy for an unknown name: the nearest known one, or all of them."""
    known = sorted(known)
    lowered = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f"did you mean '{lowered[near[0]]}'?"
    return "choose one of " + ", ".join(known) if known else "none is known"


class Registry(Generic[T]):
    """An insertion-ordered map with decorators: ``@OPS.register("patch")``."""

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Enrol the decorated object under ``name``; a second one of that name is refused."""

        def enrol(entry: T) -> T:
            if name in self._entries:
                raise RuntimeError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            return entry

        return enrol

    def get(self, name: str, where: str) -> T:
        """The entry of that name. Raises SpecError at ``where`` with a suggestion if there is none."""
        if name not in self._entries:
            raise SpecError(where, f"unknown {self.kind} '{name}'", suggest(name, self._entries))
        return self._entries[name]

    def names(self) -> list[str]:
        return list(self._entries)

    def items(self) -> Iterator[tuple[str, T]]:
        return iter(self._entries.items())

    def __contains__(self, name: object) -> bool:
        return name in self._entries
