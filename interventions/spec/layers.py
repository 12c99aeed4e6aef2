"""``layers``: all, a block, a list of them, or from:to:step, alone or under together, onwards or upto.

Checked on load, resolved for a known model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from patchboard.registry import suggest
from patchboard.spec.refusal import InvalidValue, only_once, refused_at
from patchboard.spec.values import shown
from patchboard.spec.yaml_text import parse_yaml, plain

_SLICE = re.compile(r"(-?\d+)?\s*:\s*(-?\d+)?\s*(?::\s*(-?\d+)?)?")
_LIST = re.compile(r"-?\d+(\s*,\s*-?\d+)*")
TEXT_PATTERN = r"^(all|-?\d+(,-?\d+)*|(-?\d+)?:(-?\d+)?(:(-?\d+)?)?)$"
"""What ``layers`` may be as text, for the JSON Schema."""

SEVERAL = ("together", "onwards", "upto")
"""Keys of a mapping by which a cell edits several blocks: those given, from each one on, up to each one."""

_FORMS = "write all, a block's number, a list [0, 4], or from:to:step as in 0:12:2"
_MAPPINGS = "write {together: all}, {onwards: all} or {upto: all} for cells of several blocks"


def check_layers(value: Any, where: str) -> None:
    """Raises SpecError at ``where`` unless ``value`` can be meant as layers of some model."""
    with refused_at(where):
        canonical_layers(value)


def layers_of_flag(text: str, flag: str) -> Any:
    """What a command line says of layers: the text of the short forms, or YAML of a list, a mapping or a sweep.

    Raises SpecError at ``flag`` unless it can be meant as layers of some model.

    >>> [layers_of_flag(text, "--layers") for text in (":4", "[0, 1]", "{upto: all}")]
    [':4', [0, 1], {'upto': 'all'}]
    """
    value: Any = text
    if text.lstrip()[:1] in tuple("[{\"'"):  # the short forms are no YAML: it takes -4: for a mapping
        with refused_at(flag):
            value = plain(parse_yaml(text, flag, none_is_null=True))
    if isinstance(value, Mapping) and set(value) == {"sweep"} and isinstance(value["sweep"], list):
        for i, each in enumerate(value["sweep"]):
            check_layers(each, f"{flag}.sweep[{i}]")
    else:
        check_layers(value, flag)
    return value


def with_form_of(former: Any, layers: Any) -> Any:
    """``layers`` as a mapping of the same key as ``former``, if that is one at each value, and ``layers`` none.

    >>> with_form_of({"onwards": "all"}, [0, 1]), with_form_of({"onwards": "all"}, {"together": [0, 1]})
    ({'onwards': [0, 1]}, {'together': [0, 1]})
    """
    values = former["sweep"] if isinstance(former, Mapping) and "sweep" in former else [former]
    keys = {next(iter(value)) if isinstance(value, Mapping) else None for value in values}
    forms = layers["sweep"] if isinstance(layers, Mapping) and "sweep" in layers else [layers]
    if len(keys) > 1 or None in keys or any(isinstance(value, Mapping) for value in forms):
        return layers
    return {keys.pop(): layers}


def parse_layers(value: str | int | list[int], n_layers: int, where: str, unit: str = "layer") -> tuple[int, ...]:
    """The blocks that ``value`` names, in the order it names them.

    value: ``all``; an int or a list of ints, negative ones from the end; ``from:to:step`` as a Python slice
    (``to`` exclusive, parts may be empty, ends beyond the model's are cut); "3,5" as a command line has it.
    unit: what is counted; heads of a block are written in the same forms.
    Raises SpecError at ``where`` for a block the model has not, one named twice, or an empty result.

    >>> parse_layers("0:12:4", 12, "--layers"), parse_layers([0, -1], 12, "--layers")
    ((0, 4, 8), (0, 11))
    """
    with refused_at(where):
        value = canonical_layers(value, unit)
        if isinstance(value, Mapping):
            raise InvalidValue(f"found {shown(value)}, expected {unit}s", _FORMS)
        if isinstance(value, str):
            return _slice(value, n_layers, unit)
        blocks = [value] if isinstance(value, int) else value
        for i, block in enumerate(blocks):
            if not -n_layers <= block < n_layers:
                at = (i,) if isinstance(value, list) else ()
                what = f"there is no {unit} {block}, the model has {n_layers}"
                raise InvalidValue(what, f"choose 0 to {n_layers - 1}", at)
        resolved = [block % n_layers for block in blocks]
        only_once(resolved)
        return tuple(resolved)


def _slice(text: str, n_layers: int, unit: str) -> tuple[int, ...]:
    every = tuple(range(n_layers))
    if text == "all":
        return every
    start, stop, step = (int(part) if part else None for part in (text + ":").split(":")[:3])
    chosen = every[start:stop:step]
    if not chosen:
        raise InvalidValue(f"{text} holds no {unit}, the model has {n_layers}", f"choose within 0:{n_layers}")
    return chosen


def canonical_layers(value: Any, unit: str = "layer") -> Any:
    """The one spelling of ``value``: "3, 5" -> [3, 5], "3" -> 3, "0 : 8" -> "0:8". Raises InvalidValue."""
    if isinstance(value, Mapping):
        return _several(value)
    if isinstance(value, str):
        return _text(value, unit)
    if isinstance(value, list):
        if not value:
            raise InvalidValue(f"found an empty list, expected at least 1 {unit}", _FORMS)
        for i, block in enumerate(value):
            if isinstance(block, bool) or not isinstance(block, int):
                raise InvalidValue(f"found {shown(block)}, expected a {unit}'s number", "write whole numbers", (i,))
        only_once(value)
    elif isinstance(value, bool) or not isinstance(value, int):
        raise InvalidValue(f"found {shown(value)}, expected {unit}s", _FORMS)
    return value


def _text(text: str, unit: str) -> str | int | list[int]:
    text = text.strip()
    if text == "all":
        return text
    if _LIST.fullmatch(text):
        blocks = [int(part) for part in text.split(",")]
        return canonical_layers(blocks, unit) if "," in text else blocks[0]
    parts = _SLICE.fullmatch(text)
    if parts is None:
        near = suggest(text, ["all"])
        remedy = near if near.startswith("did you mean") else _FORMS
        raise InvalidValue(f"found {shown(text)}, expected {unit}s", remedy)
    if parts[3] and int(parts[3]) == 0:
        raise InvalidValue(f"{text} has a step of 0, expected another whole number", "leave the step out for 1")
    return "".join(text.split())


def _several(value: Mapping[Any, Any]) -> dict[str, Any]:
    if len(value) != 1 or not set(value) <= set(SEVERAL):
        near = suggest(str(next(iter(value), "")), SEVERAL)
        remedy = near if len(value) == 1 and near.startswith("did you mean") else _MAPPINGS
        raise InvalidValue(f"found {shown(value)}, expected layers", remedy)
    ((key, inner),) = value.items()
    if isinstance(inner, Mapping):
        raise InvalidValue(f"found {shown(inner)}, expected layers", _FORMS, (key,))
    try:
        return {key: canonical_layers(inner)}
    except InvalidValue as refusal:
        raise refusal.inside(key) from None
