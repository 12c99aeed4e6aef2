"""Plain YAML values: how errors show them, how results label them, and when two are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_CONSTANTS = {None: "null", True: "true", False: "false"}


def label(value: Any) -> str:
    """How tables and figures show a swept value: a scalar as YAML has it, anything else as compact JSON.

    Text is shown without quotes, so the text '1' and the number 1 read alike.

    >>> label(True), label(0.5), label("last"), label({"rank": 2})
    ('true', '0.5', 'last', '{"rank":2}')
    """
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def identity(value: Any) -> Any:
    """A hashable stand-in, equal where values are: ``1`` and ``1.0`` are one number, ``true`` is none."""
    if isinstance(value, Mapping):
        return ("mapping", frozenset((key, identity(entry)) for key, entry in value.items()))
    if isinstance(value, list | tuple):
        return ("list", *map(identity, value))
    return (isinstance(value, bool), value)


def shown(value: Any) -> str:
    """A value as an error names it: its kind in YAML's terms, then the value, cut where it is long."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return _CONSTANTS[value]
    if isinstance(value, str):
        return f"the text {_short(repr(value))}"
    if isinstance(value, int):
        return f"the whole number {_short(str(value))}"
    if isinstance(value, float):
        return f"the number {value}"
    if isinstance(value, list | tuple):
        return f"the list {_short(flow(value))}" if value else "an empty list"
    if isinstance(value, Mapping):
        return f"the mapping {_short(flow(value))}" if value else "an empty mapping"
    return f"a {type(value).__name__}"


def flow(value: Any) -> str:
    """A value in YAML's flow style on one line, without quotes: to be read by people, not to be loaded."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if value is None or isinstance(value, bool):
        return _CONSTANTS[value]
    return " ".join(str(value).split()) or "''"


def _short(text: str, most: int = 48) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
