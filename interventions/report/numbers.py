"""Numbers as the report writes them, on the page and in the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def signed(value: float | None) -> str:
    """With sign and about three digits: ``+0.385``, ``-12.4``, ``+2e-06``, ``0``, ``-`` where unknown."""
    if value is None or value != value:
        return "-"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.0005:
        return f"{value:+.0e}"
    return f"{value:+.{3 if size < 10 else 1 if size < 1000 else 0}f}"


def plain(value: float | None) -> str:
    """``signed`` without the plus."""
    return signed(value).replace("+", "", 1)


def fraction(value: float | None) -> str:
    """Two decimals, for CD, R² and the like."""
    return "-" if value is None or value != value else f"{value:.2f}"


def with_interval(entry: Mapping[str, Any]) -> str:
    """``+0.385 [+0.318, +0.461]``; a bare 0 where nothing changed in any query."""
    if entry.get("effect") is None:
        return "-"
    if entry["effect"] == entry["ci_low"] == entry["ci_high"] == 0:
        return "0"
    return f"{signed(entry['effect'])} [{signed(entry['ci_low'])}, {signed(entry['ci_high'])}]"


def between(
    row: Mapping[str, Any] | None, value: str, written: Callable[[float | None], str] = fraction, bounds: str = "ci"
) -> str:
    """``0.85 [0.80, 0.91]``: a row's value and its ``{bounds}_low``, ``{bounds}_high``; ``-`` where it is unknown."""
    if row is None or row[value] is None:
        return "-"
    return f"{written(row[value])} [{written(row[f'{bounds}_low'])}, {written(row[f'{bounds}_high'])}]"


def above_twin(row: Mapping[str, Any]) -> str:
    """``+0.54 [+0.49, +0.59]``: CD less that of the untrained twin."""
    return between(row, "above_twin", lambda value: "-" if value is None else f"{value:+.2f}", "above_twin")


def cd_there(point: Mapping[str, Any]) -> str:
    """CD at the best layer of a point of summary.json: ``0.96``, with an untrained twin ``0.96 (twin 0.40)``."""
    twin = point.get("above_twin")
    return fraction(point["cd_at_best_layer"]) + (f" (twin {fraction(twin['twin'])})" if twin else "")


def counted(count: int, what: str) -> str:
    """``1 shot``, ``4 shots``."""
    return f"{count} {what}{'s' * (count != 1)}"


def covers_zero(entry: Mapping[str, Any]) -> bool:
    """Whether the interval of an effect holds zero."""
    return entry["ci_low"] is not None and entry["ci_low"] <= 0 <= entry["ci_high"]


def spans(layers: Iterable[int]) -> str:
    """``1, 2, 4, 5, 6`` as ``1-2, 4-6``."""
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def place_label(layers: str, head: int | None = None) -> str:
    """A cell's place, short. layers: as the column of that name; head: None or -1 where none is meant.

    >>> place_label("12"), place_label("12", 3), place_label("0,1,2,5", 1)
    ('12', '12.h3', '0-2, 5.h1')
    """
    return spans(map(int, layers.split(","))) + ("" if head is None or head < 0 else f".h{head}")


def best_place(point: Mapping[str, Any]) -> str:
    """``place_label`` of a point of summary.json, ``-`` where nothing could be measured."""
    return "-" if point["layers"] is None else place_label(point["layers"], point.get("head"))


def place_words(layers: str, head: int | None = None, axis: str | None = None) -> str:
    """The same in a sentence: ``layer 12``, ``head 3 of layer 12``, ``layers 0-2 together``.

    axis: ``onwards`` where a cell edits its layer and all behind it, ``upto`` where all before it.

    >>> place_words("4,5", axis="onwards"), place_words("0,1,2", axis="upto")
    ('layers 4-5 together (from layer 4 on)', 'layers 0-2 together (up to layer 2)')
    """
    several = "," in layers
    where = f"layer{'s' * several} {place_label(layers)}" + " together" * several
    blocks = layers.split(",")
    ends = {"onwards": f" (from layer {blocks[0]} on)", "upto": f" (up to layer {blocks[-1]})"}
    where += ends.get(axis or "", "")
    return where if head is None or head < 0 else f"head {head} of {where}"


def listed(words: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last
