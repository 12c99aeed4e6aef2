"""``position``: the named places of a prompt, token indices, or a list of them."""

from __future__ import annotations

from typing import Any, Literal, get_args

from patchboard.registry import suggest
from patchboard.spec.refusal import InvalidValue, only_once, refused_at
from patchboard.spec.values import shown

PositionName = Literal["last", "answer", "query", "demo_inputs", "demo_outputs", "before_answers", "all"]
POSITIONS: tuple[str, ...] = get_args(PositionName)


def check_position_syntax(value: Any, where: str) -> None:
    """Raises SpecError at ``where`` unless ``value`` is a name, an index or a list of them, none twice."""
    with refused_at(where):
        check_position(value)


def check_position(value: Any) -> None:
    """As ``check_position_syntax``, raising a InvalidValue."""
    if not isinstance(value, list):
        return _check_one(value)
    if not value:
        raise InvalidValue("found an empty list, expected at least 1 position", _names())
    for i, entry in enumerate(value):
        try:
            _check_one(entry)
        except InvalidValue as refusal:
            raise refusal.inside(i) from None
    only_once(value)


def _check_one(value: Any) -> None:
    if isinstance(value, str):
        if value in POSITIONS:
            return
        if value.strip().lstrip("-").isdigit():
            what = f"found {shown(value)}, expected a token's index"
            raise InvalidValue(what, f"write {value.strip()} without quotes")
        raise InvalidValue(f"unknown position '{value}'", suggest(value, POSITIONS))
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(f"found {shown(value)}, expected a position", _names())


def _names() -> str:
    return f"write one of {', '.join(POSITIONS)}, or a token's index"
