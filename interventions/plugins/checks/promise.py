"""A promise of a piece, and how it was kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from patchboard.errors import PatchboardError


@dataclass(frozen=True)
class Promise:
    """One thing that every piece of a kind must do. test: piece -> what is wrong in words, "" where nothing is."""

    text: str
    test: Callable[[Any], str]


@dataclass(frozen=True)
class Finding:
    """How a piece keeps a promise. problem: "" where it does."""

    promise: str
    problem: str


def kept(promises: Sequence[Promise], piece: Any) -> list[Finding]:
    """Each promise tested on the piece; what the piece's own code raises is a problem."""
    return [Finding(promise.text, _problem(promise, piece)) for promise in promises]


def _problem(promise: Promise, piece: Any) -> str:
    try:
        return promise.test(piece)
    except PatchboardError as error:
        return error.one_line()
    except Exception as error:
        lines = " ".join(str(error).split())
        return f"raises {type(error).__name__}{': ' if lines else ''}{lines}"
