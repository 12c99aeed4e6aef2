"""Which of a run's parts hold a piece of its work: one file, or one for each of its halves, or of theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from patchboard.store.folder import RunFolder

P = TypeVar("P")


def files_holding(
    folder: RunFolder, piece: P, file_of: Callable[[P], str], halved: Callable[[P, int], list[P]]
) -> list[str] | None:
    """In order; None where some of the piece is missing. halved: as ``Halving`` takes it."""
    if folder.has(file_of(piece)):
        return [file_of(piece)]
    halves = halved(piece, 1)
    names: list[str] = []
    for half in halves if len(halves) > 1 else ():
        own = files_holding(folder, half, file_of, halved)
        if own is None:
            return None
        names += own
    return names or None
