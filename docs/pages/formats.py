"""How pages write numbers: filters of their templates. What is not there (None) is written as a dash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

NOTHING = "–"


def _of_what_is_there(write: Callable[[float], str]) -> Callable[[float | None], str]:
    @wraps(write)
    def filtered(value: float | None) -> str:
        return NOTHING if value is None else write(value)

    return filtered


@_of_what_is_there
def two(value: float) -> str:
    """.96, -.17, 1.00: two decimals, without a leading 0."""
    return _short(value, 2)


@_of_what_is_there
def three(value: float) -> str:
    """.964: three decimals, without a leading 0."""
    return _short(value, 3)


@_of_what_is_there
def signed(value: float) -> str:
    """+.17, -.02; what rounds to nothing has the sign that it had: +.00, -.00."""
    value += 0.0  # -0.0 is 0
    return ("+" if value >= 0 else "") + _short(value, 2)


@_of_what_is_there
def count(value: float) -> str:
    """12,544"""
    return f"{value:,.0f}"


@_of_what_is_there
def percent(value: float) -> str:
    """A fraction as 41 %."""
    return f"{100 * value:.0f} %"


@_of_what_is_there
def duration(seconds: float) -> str:
    """17 seconds, 2.3 minutes, 54 minutes, 2.1 hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    amount, unit = (seconds / 60, "minutes") if seconds < 5400 else (seconds / 3600, "hours")
    return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"


def interval(ends: Sequence[float | None], write: Callable[[float | None], str] = two) -> str:
    """[.09, .26]; of an effect ``interval(signed)``: [+.09, +.26]."""
    return f"[{', '.join(write(end) for end in ends)}]"


def listed(values: Sequence[float | None], write: Callable[[float | None], str] = two) -> str:
    """.13, .16, .63: a curve in a sentence."""
    return ", ".join(write(value) for value in values)


FILTERS = {
    name.__name__: name for name in (two, three, signed, count, percent, duration, interval, listed)
}  # `write` of the last two is given by name in a template: `ends|interval(signed)`


def _short(value: float, decimals: int) -> str:
    text = f"{value:.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 and not text.endswith("1." + "0" * decimals) else text
