"""``position``: the named places of a prompt, spans of its task family, token indices, or a list of them.

A name that is no registered position may be a span that the family marks in its inputs: only the family knows.
So sections take any name, and ``check_position_names`` holds them against both once the family is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.config import JsonDict

from patchboard.registry import Registry, suggest
from patchboard.spec.refusal import InvalidValue, only_once, refused_at
from patchboard.spec.values import shown


@dataclass(frozen=True)
class Position:
    """A named place."""

    meaning: str
    """Its entry in docs/spec.md: ``the tokens of the query's input``."""
    phrase: str
    """How reports call it: ``the query's tokens``."""
    find: Callable[[Any], Sequence[int]] | None = None
    """Prompt (``patchboard.tasks.prompt.Prompt``) -> indices of its tokens. None: the prompt is made with it, from the
    places of its parts in the text (``patchboard.tasks.prompts``)."""


POSITIONS: Registry[Position] = Registry("position")

for _name, _position in {
    "last": Position("the token before the answer", "the last prompt token"),
    "answer": Position(
        "the answer's tokens that are fed in: all but its last. None where the answer is one token, and the query is"
        " then excluded",
        "the answer's tokens",
    ),
    "query": Position("the tokens of the query's input", "the query's tokens"),
    "demo_inputs": Position("the tokens of the demonstrations' inputs", "the demonstrations' inputs"),
    "demo_outputs": Position("the tokens of the demonstrations' answers", "the demonstrations' outputs"),
    "before_answers": Position(
        "the token before each demonstration's answer", "the token before each demonstration's answer"
    ),
    "all": Position("every token of the prompt", "all tokens"),
}.items():
    POSITIONS.register(_name)(_position)


End = Literal["first", "last"]
ENDS: tuple[End, ...] = ("first", "last")
"""``NAME.first`` and ``NAME.last``: of the tokens that a name stands for, one."""

_NAME = r"[A-Za-z_][A-Za-z0-9_+-]*"
_NAMED = re.compile(rf"({_NAME})(?:\.(first|last))?")


def _list_names(schema: JsonDict) -> None:
    schema["anyOf"] = [{"enum": [*POSITIONS.names()]}, {"pattern": f"^{_NAMED.pattern}$"}]


PositionName = Annotated[str, Field(json_schema_extra=_list_names)]


def name_and_end(position: str) -> tuple[str, End | None]:
    """
    >>> name_and_end("query.last"), name_and_end("S1")
    (('query', 'last'), ('S1', None))
    """
    name, _, end = position.partition(".")
    return name, next((each for each in ENDS if each == end), None)


def check_position_names(value: Any, spans: Sequence[str], where: str) -> None:
    """Raises SpecError at ``where`` unless ``value`` is a position whose names are registered, or among ``spans``."""
    with refused_at(where):
        check_position(value)
        for i, entry in enumerate(value if isinstance(value, list) else [value]):
            name = name_and_end(entry)[0] if isinstance(entry, str) else "all"
            if name not in POSITIONS and name not in spans:
                refusal = InvalidValue(f"unknown position '{name}'", suggest(name, (*POSITIONS, *spans)))
                raise refusal.inside(i) if isinstance(value, list) else refusal


def check_position(value: Any) -> None:
    """Raises InvalidValue unless ``value`` is a name, an index or a list of them, none twice."""
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
        if _NAMED.fullmatch(value):
            return
        if value.strip().lstrip("-").isdigit():
            what = f"found {shown(value)}, expected a token's index"
            raise InvalidValue(what, f"write {value.strip()} without quotes")
        raise InvalidValue(f"found {shown(value)}, expected a position", _names())
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(f"found {shown(value)}, expected a position", _names())


def _names() -> str:
    return f"write one of {', '.join(POSITIONS)}, a span of the task family, or a token's index"
