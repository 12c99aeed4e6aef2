"""Plain data as Python text that is good to read: short things on a line, long ones entry by entry."""

from __future__ import annotations

import json
import math
import textwrap
from typing import Any

WIDTH = 88


class Code(str):
    """Text that stands in a script as it is, not as a string."""


def literal(value: Any, indent: int = 0, after: int = 0) -> str:
    """indent: columns before each further line; after: columns that the first line has used already."""
    short = _short(value)
    pad = " " * (indent + 4)
    if not isinstance(value, dict | list | tuple | str) or isinstance(value, Code) or not value:
        return short
    if indent + after + len(short) < WIDTH:  # a comma may follow
        return short
    if isinstance(value, str):
        pieces = [each for line in value.splitlines(keepends=True) for each in _cut(line, WIDTH - indent - 8)]
        inner = "\n".join(pad + _short(piece) for piece in pieces)
        return f"(\n{inner}\n{' ' * indent})" if len(pieces) > 1 else short
    if isinstance(value, dict):
        lines = []
        for key, entry in value.items():
            name = f"{_short(key)}: "
            lines.append(f"{pad}{name}{literal(entry, indent + 4, len(name))},")
        return "{\n" + "\n".join(lines) + f"\n{' ' * indent}}}"
    opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
    if all(isinstance(entry, int | float) for entry in value):
        text = ", ".join(map(_short, value)) + ","
        inner = textwrap.fill(text, WIDTH, initial_indent=pad, subsequent_indent=pad)
    else:
        inner = "\n".join(f"{pad}{literal(entry, indent + 4)}," for entry in value)
    return f"{opening}\n{inner}\n{' ' * indent}{closing}"


def _cut(line: str, width: int) -> list[str]:
    return [line[i : i + width] for i in range(0, len(line), width)]


def _short(value: Any) -> str:
    """On one line."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_short(key)}: {_short(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_short, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)
