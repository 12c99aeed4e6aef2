"""Which swept fields prompts depend on, and at which settings of theirs a set of prompts is used."""

from __future__ import annotations

from collections.abc import Sequence

from patchboard.spec.axes import Point, label

ROWS_FIELDS = ("model", "tasks", "prompts.seed", "prompts.bos", "prompts.template", "prompts.chat", "prompts.system")
"""Global fields on which fit and decoded prompts depend."""
EVALUATED_FIELDS = ("model", "tasks", "prompts", "controls", "metrics")
"""Global fields by which groups of evaluated prompts differ."""


class SweptSettings:
    """Of each set of prompts the settings of the swept fields that it is used at, in order."""

    def __init__(self):
        self._settings: dict[str, dict[str, None]] = {}

    def note(self, set_id: str, point: Point, fields: Sequence[str]) -> None:
        """Remember that the set holds prompts of this point's setting of the fields."""
        chosen = [f"{path}={label(value)}" for path, value in point.swept.items() if bears_on(path, fields)]
        self._settings.setdefault(set_id, {})[", ".join(chosen)] = None

    def all(self) -> dict[str, tuple[str, ...]]:
        return {set_id: tuple(settings) for set_id, settings in self._settings.items()}


def text_key(point: Point) -> str:
    """What of the prompts' settings decides how rows become tokens."""
    return point.spec.prompts.model_dump_json(include={"bos", "template", "chat", "system"})


def label_of(point: Point, fields: Sequence[str]) -> str:
    """The swept global fields on which a vector depends, as part of its key."""
    return ",".join(f"{path}={label(value)}" for path, value in point.swept.items() if bears_on(path, fields))


def bears_on(path: str, fields: Sequence[str]) -> bool:
    """Whether a swept path is one of the fields, inside one, or a section that holds one."""
    return any(path == f or path.startswith((f"{f}.", f"{f}[")) or f.startswith(f"{path}.") for f in fields)
