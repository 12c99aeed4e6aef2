"""The refusal that a check raises before it knows where in the spec it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from patchboard.errors import SpecError
from patchboard.spec.paths import FieldPath, format_path
from patchboard.spec.values import flow, identity


class InvalidValue(ValueError):
    """A value that cannot be meant. A ValueError, so that pydantic adds the place and goes on checking.

    what, remedy: as in PatchboardError.
    at: where inside the checked value, as ``(1,)`` for the second entry of a list.
    """

    def __init__(self, what: str, remedy: str, at: FieldPath = ()):
        self.what, self.remedy, self.at = what, remedy, at
        super().__init__(f"{format_path(at) + ': ' if at else ''}{what}; {remedy}")

    def inside(self, *outer: str | int) -> InvalidValue:
        """The same, as seen from the value that holds the checked one at ``outer``."""
        return InvalidValue(self.what, self.remedy, (*outer, *self.at))


@contextmanager
def refused_at(where: str) -> Iterator[None]:
    """Turns a InvalidValue of the body into a SpecError at ``where``."""
    try:
        yield
    except InvalidValue as refusal:
        raise SpecError(format_path(refusal.at, where), refusal.what, refusal.remedy) from None


def only_once(values: Sequence[Any]) -> None:
    """Refuses a list that holds an entry twice (``true`` and ``1`` differ, ``1`` and ``1.0`` do not)."""
    first: dict[Any, int] = {}
    for i, value in enumerate(values):
        if first.setdefault(identity(value), i) != i:
            raise InvalidValue(f"{flow(value)} stands in the list twice", "keep one", (i,))
