"""File formats of figures: PNG always, others where they are asked for. Names alone, so that flags load no plotting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from patchboard.errors import SpecError
from patchboard.registry import suggest

VECTOR = ("svg", "pdf")
"""What can be asked for beside PNG."""


def formats_of(asked: str | Iterable[str], where: str) -> tuple[str, ...]:
    """The vector formats of ``svg,pdf`` or of names. Raises SpecError at ``where`` for one that there is not.

    >>> formats_of("svg, png", "--figures"), formats_of(["PDF"], "figures")
    (('svg',), ('pdf',))
    """
    names = asked.split(",") if isinstance(asked, str) else list(asked)
    found = [name.strip().lower() for name in names if name.strip()]
    for name in found:
        if name not in (*VECTOR, "png"):
            remedy = suggest(name, [*VECTOR, "png"])
            raise SpecError(where, f"there is no format '{name}', expected svg, pdf or png", remedy)
    return tuple(name for name in VECTOR if name in found)


def lacking(folder: Path, formats: Sequence[str]) -> bool:
    """Whether a figure of a run folder is there as PNG, and not in one of the formats."""
    drawn = list((folder / "figures").glob("[!.]*.png")) if formats else []
    return any(not path.with_suffix(f".{format}").exists() for path in drawn for format in formats)
