"""unrelated: the same edit in texts that have nothing to do with the task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import Field

from patchboard.errors import SpecError
from patchboard.ops import OPS
from patchboard.plan.cells import CLEAN
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.spec.axes import Variant
from patchboard.spec.edits import EditSection
from patchboard.spec.positions import name_and_end
from patchboard.spec.section import Section

UNRELATED: Literal["unrelated"] = "unrelated"
_PLACES = ("last", "all", "query")
"""Positions that a plain text has; its `query` is the whole text."""


class Texts(Section):
    """Which texts."""

    texts: str | None = Field(
        default=None, description="a file with a text on each line, or hf://repo/path; default: 48 that come along"
    )


@CONTROLS.register(UNRELATED)
class Unrelated(Control):
    """the very same edit, with the same vector, in plain texts that have nothing to do with the task, whose last word
    is asked for: what it breaks. `kl` there is how far it moves the next word. `texts`: a file with a text on each
    line; default: 48 that come along. Not for edits with another prompt's states or at positions that a text lacks"""

    phrase = "the same edit in unrelated texts"
    overlap = "the edit changes unrelated texts as much"
    line = LineStyle("#999933", ":", "X")
    Options = Texts

    @classmethod
    def check(cls, variants: Sequence[Variant], tasks: Sequence[str], where: str) -> None:
        if variants and not any(all(map(_is_of_a_text, variant.section.parts)) for variant in variants):
            places = f"{', '.join(_PLACES)} or a token's index"
            what = f"no edit can be made in a plain text: each takes another prompt's states, or is not at {places}"
            raise SpecError(where, what, "leave it out")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        assert isinstance(options, Texts)
        if placed.edits and all(map(_is_of_a_text, placed.variant.section.parts)):
            yield ControlCell(UNRELATED, placed.vector_task, placed.edits, texts=options.texts or "")


def _is_of_a_text(section: EditSection) -> bool:
    """Whether its tokens are there in a text, and its states do not come from another prompt."""
    if OPS.get(section.op, "op").operand in ("state", "edges", "path"):
        return False
    if section.source is not None and section.source.name != CLEAN:
        return False
    value = section.position
    names = [name_and_end(name)[0] for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)]
    return set(names) <= set(_PLACES)
