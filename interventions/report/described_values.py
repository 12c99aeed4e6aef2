"""Values of a resolved spec in words, swept ones as all of their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from patchboard.report.numbers import listed


def values_of(node: Any, *path: str) -> list[Any]:
    """The values of a leaf of the spec, None where it is not given; a sweep may stand anywhere on the way."""
    if isinstance(node, Mapping) and "sweep" in node:
        return [value for each in node["sweep"] for value in values_of(each, *path)]
    return values_of(node.get(path[0]), *path[1:]) if path else [node]


def phrase_in(phrases: Mapping[str, str], value: Any) -> str:
    return phrases.get(value, value) if isinstance(value, str) else text_of(value)


def text_of(node: Any, *path: str) -> str:
    """A leaf of the spec as text. A sweep may stand at the leaf or anywhere above it."""
    if isinstance(node, Mapping) and "sweep" in node:
        return f"{listed(text_of(each, *path) for each in node['sweep'])} (swept)"
    if path:
        return text_of(node[path[0]], *path[1:])
    if isinstance(node, Mapping):
        return ", ".join(f"{key}: {text_of(value)}" for key, value in node.items())
    return listed(map(text_of, node)) if isinstance(node, list) else str(node)
