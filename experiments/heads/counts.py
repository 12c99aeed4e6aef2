"""The flag of a script that asks for the best heads: how many of them. Light, for the command line."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError


def counts(text: str) -> tuple[int, ...]:
    """``"1,2,4"`` or ``"[1, 2, 4]"`` -> (1, 2, 4). Raises ArgumentTypeError unless all are whole numbers above 0 that
    rise.

    >>> counts("1, 5"), counts("[1, 5]")
    ((1, 5), (1, 5))
    """
    listed = re.fullmatch(r"\s*\[(.*)\]\s*", text)
    parts = (listed[1] if listed else text).split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ArgumentTypeError(f"found '{text}', expected whole numbers as in 1,2,4")
    numbers = tuple(map(int, parts))
    if numbers[0] < 1 or any(a >= b for a, b in zip(numbers, numbers[1:], strict=False)):
        raise ArgumentTypeError(f"found '{text}', expected numbers above 0, each more than the one before")
    return numbers
