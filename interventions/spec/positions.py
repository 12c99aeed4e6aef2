"""``position``: the named places of a prompt, token indices, or a list of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

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


def _list_names(schema: JsonDict) -> None:
    schema["enum"] = [*POSITIONS.names()]


PositionName = Annotated[str, Field(json_schema_extra=_list_names)]


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
