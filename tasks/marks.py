"""Spans marked in a text: ``The {S1: Mary} gave`` is "The Mary gave" with characters 4 to 8 named S1.

A mark is ``{NAME:``, at most one space that belongs to it, the marked text, and ``}``. ``{{`` and ``}}`` are the
braces themselves, read from the left; so a brace that closes a mark cannot stand before a literal one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from patchboard.spec.positions import POSITIONS

_NAME = r"[A-Za-z][A-Za-z0-9_]*"
_SIGNS = re.compile(rf"(?P<brace>\{{\{{|\}}\}})|\{{(?P<name>{_NAME}): ?|(?P<open>\{{)|(?P<close>\}})")

Spans = dict[str, tuple[int, int]]


class MarkError(ValueError):
    """What is wrong with a text's marks, and the remedy."""

    def __init__(self, what: str, remedy: str):
        super().__init__(what)
        self.what, self.remedy = what, remedy


def fault_of_name(name: str) -> str:
    """Why a span or a source cannot be called so; "" where it can: a letter, then letters, digits and "_"."""
    if not re.fullmatch(_NAME, name):
        return "is no name (a letter, then letters, digits and _)"
    return "is the name of a position" if name in POSITIONS else ""


def unmarked(text: str) -> tuple[str, Spans]:
    """The text without its marks, and name -> characters [start, stop) of it.

    Raises MarkError for unbalanced marks, a name twice or of a position, and an empty span.
    """
    plain, at, spans = "", 0, {}
    opened: tuple[str, int] | None = None
    for sign in _SIGNS.finditer(text):
        plain += text[at : sign.start()]
        at = sign.end()
        if sign["brace"]:
            plain += sign["brace"][0]
        elif sign["name"]:
            _check_opening(sign["name"], spans, opened)
            opened = sign["name"], len(plain)
        elif sign["open"]:
            raise MarkError(f"has a {{ at character {sign.start()} that opens no mark", _LITERAL)
        else:
            if opened is None:
                raise MarkError(f"has a }} at character {sign.start()} that closes no mark", _LITERAL)
            name, start = opened
            if not plain[start:].strip():
                raise MarkError(f"marks nothing as {name}", f"write {{{name}: its text}}")
            spans[name], opened = (start, len(plain)), None
    if opened is not None:
        raise MarkError(f"never closes the mark {{{opened[0]}:", "close it with }")
    return plain + text[at:], spans


_LITERAL = "write {NAME: text} for a span, {{ or }} for the brace itself"


def _check_opening(name: str, spans: Spans, opened: tuple[str, int] | None) -> None:
    if opened is not None:
        what = f"opens the mark {{{name}: inside of {{{opened[0]}:"
        raise MarkError(what, "close that one first: marks do not hold each other")
    if name in spans:
        raise MarkError(f"marks {name} twice", "give each span a name of its own")
    fault = fault_of_name(name)
    if fault:
        raise MarkError(f"marks {name}, which {fault}", suggest_name(name))


def suggest_name(name: str) -> str:
    """A remedy for a name that is taken or none."""
    return f"call it {name}_span" if name in POSITIONS else "call it S1, say"


def span_of(part: str, text: str) -> tuple[int, int]:
    """Characters of the one place where ``part`` stands in ``text``. Raises MarkError where there are more or none."""
    first, times = text.find(part), sum(text.startswith(part, i) for i in range(len(text)))
    if times != 1:
        where = "nowhere" if not times else f"{times} times"
        raise MarkError(f"'{part}' stands {where} in '{text}', expected once", "mark it in the text: {NAME: …}")
    return first, first + len(part)


def marked(text: str, spans: Mapping[str, tuple[int, int]]) -> str:
    """The text with marks, such that ``unmarked`` gives both back. spans: none overlap, none before a "}"."""
    edges = {a: f"{{{name}: " for name, (a, _) in spans.items()}
    ends = {b for _, b in spans.values()}
    parts = []
    for i, sign in enumerate([*text, ""]):
        parts += ["}" * (i in ends), edges.get(i, ""), sign * 2 if sign in ("{", "}") else sign]
    return "".join(parts)
