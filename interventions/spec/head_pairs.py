"""``vector.heads``: which attention heads a function vector is the sum of, as [layer, head] pairs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from patchboard.errors import SpecError
from patchboard.spec.layers import parse_layers
from patchboard.spec.refusal import InvalidValue, only_once
from patchboard.spec.values import shown

_REMEDY = "write pairs of a layer and a head, as in [[3, 0], [4, 2]]"


def check_pairs(value: Any) -> Any:
    """The value. Raises InvalidValue unless it is None or a list of pairs of whole numbers, none twice."""
    if value is None:
        return value
    if not isinstance(value, list) or not value:
        raise InvalidValue(f"found {shown(value)}, expected [layer, head] pairs", _REMEDY)
    for i, pair in enumerate(value):
        numbers = pair if isinstance(pair, list) else []
        if len(numbers) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
            raise InvalidValue(f"found {shown(pair)}, expected [layer, head]", _REMEDY, (i,))
    only_once(value)
    return value


HeadPairs = Annotated[
    list[Annotated[list[int], Field(min_length=2, max_length=2)]] | None, BeforeValidator(check_pairs)
]


def parse_pairs(pairs: list[list[int]], layers: int, heads: int, where: str) -> tuple[tuple[int, int], ...]:
    """The pairs with numbers that counted from the end resolved, for a model of so many layers and heads of each.

    Raises SpecError at the pair for a layer or a head that the model has not, and for a head named twice.
    """
    place_of: dict[tuple[int, int], int] = {}
    for i, (layer, head) in enumerate(pairs):
        at = f"{where}[{i}]"
        ((block,), (own,)) = parse_layers(layer, layers, at), parse_layers(head, heads, at, "head")
        pair = block, own
        if place_of.setdefault(pair, i) != i:
            raise SpecError(at, f"is head {pair[1]} of layer {pair[0]}, as entry {place_of[pair]} is", "keep one")
    return tuple(place_of)
