"""Layers and positions as a spec may write them: their syntax, and what they come to for a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from interventions.errors import SpecError
from interventions.registry import suggest
from interventions.spec.sections import Together

POSITIONS = ("last", "answer", "query", "demo_inputs", "demo_outputs", "before_answers", "all")
_FORMS = "write all, a number, a list, or from:to:step"


def parse_layers(value: Any, layers: int, where: str) -> tuple[int, ...]:
    """The blocks that ``value`` names in a model of ``layers`` blocks, in the order given.

    value: ``all``, an integer (negative from the end), a list of them, ``"3,5"``, or
    ``"from:to:step"`` with Python's meaning (``to`` left out). Raises SpecError.
    """
    if isinstance(value, str) and ":" in value:
        found = list(range(layers))[slice(*_slice_parts(value, where))]
    elif value == "all":
        found = list(range(layers))
    else:
        found = [_in_range(number, layers, where) for number in _numbers(value, where)]
    if not found:
        raise SpecError(where, f"'{value}' names no layer of the model's {layers}", _FORMS)
    return tuple(found)


def check_layers(value: Any, where: str) -> None:
    """Syntax only, for when no model is at hand. Raises SpecError."""
    if isinstance(value, Together):
        check_layers(value.together, f"{where}.together")
    elif isinstance(value, str) and ":" in value:
        _slice_parts(value, where)
    elif value != "all":
        _numbers(value, where)


def _slice_parts(value: str, where: str) -> list[int | None]:
    parts = value.split(":")
    try:
        numbers = [int(part) if part.strip() else None for part in parts]
    except ValueError:
        numbers = []
    if not 2 <= len(numbers) <= 3 or numbers[2:] == [0]:
        raise SpecError(where, f"'{value}' is no range of layers", "write from:to or from:to:step, as in 0:80:4")
    return numbers


def _numbers(value: Any, where: str) -> list[int]:
    if isinstance(value, str):
        try:
            value = [int(part) for part in value.split(",")]
        except ValueError:
            raise SpecError(where, f"'{value}' is no choice of layers", _FORMS) from None
    numbers = [value] if isinstance(value, int) else list(value)
    if not numbers:
        raise SpecError(where, "the list of layers is empty", _FORMS)
    repeated = _repeated(numbers)
    if repeated is not None:
        raise SpecError(where, f"layer {repeated} is given twice", "leave one out")
    return numbers


def _in_range(number: int, layers: int, where: str) -> int:
    if not -layers <= number < layers:
        raise SpecError(where, f"there is no layer {number}", f"the model has {layers} layers, 0 to {layers - 1}")
    return number % layers


def _repeated(values: Iterable[Any]) -> Any:
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def check_position(value: Any, where: str) -> None:
    """Raises SpecError for a position that no prompt has a name for."""
    names = value if isinstance(value, list) else [value]
    if not names:
        raise SpecError(where, "the list of positions is empty", "name one of " + ", ".join(POSITIONS))
    for name in names:
        if isinstance(name, str) and name not in POSITIONS:
            raise SpecError(where, f"unknown position '{name}'", suggest(name, POSITIONS))
    if _repeated(names) is not None:
        raise SpecError(where, f"position {_repeated(names)} is given twice", "leave one out")
