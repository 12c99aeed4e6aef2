"""``{sweep: [v1, v2]}`` anywhere in a spec makes an axis; a study is the product of its axes.

Axes under ``interventions.<name>`` vary that intervention alone; all others vary the whole point.
So a sweep over one intervention's strength does not repeat the rest of the run.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interventions.errors import SpecError
from interventions.spec.sections import InterventionSection, Spec

Path = tuple[str | int, ...]
Tree = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One intervention at one setting of its own axes; ``swept`` maps their paths to values."""

    name: str
    section: InterventionSection
    swept: Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One setting of the global axes. ``spec.interventions`` holds each one's first variant."""

    spec: Spec
    swept: Mapping[str, Any]
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Study:
    """A spec file, understood: the resolved tree (defaults filled in, sweeps in place) and its points."""

    tree: Tree
    axes: Mapping[str, list[Any]]
    points: tuple[Point, ...]
    digest: str

    @property
    def name(self) -> str:
        return self.points[0].spec.name


def dotted(path: Path) -> str:
    """``("metrics", 1)`` -> ``metrics[1]``, ``("a", "b")`` -> ``a.b``."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else part)
    return out


def label(value: Any) -> str:
    """A swept value as text: scalars as they are, others as compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def find_axes(tree: Any, path: Path = ()) -> dict[Path, list[Any]]:
    """Every sweep node of the tree with its values, in the order of the file. Raises SpecError."""
    if isinstance(tree, dict):
        if "sweep" in tree:
            return {path: _values(tree, dotted(path))}
        items: Any = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    else:
        return {}
    found: dict[Path, list[Any]] = {}
    for key, value in items:
        found |= find_axes(value, (*path, key))
    return found


def _values(node: Tree, where: str) -> list[Any]:
    values = node["sweep"]
    if set(node) != {"sweep"}:
        raise SpecError(where, "a sweep has other keys beside it", "write {sweep: [v1, v2]} alone")
    if not isinstance(values, list) or not values:
        raise SpecError(where, f"a sweep needs a list of values, found {label(values)}", "write {sweep: [v1, v2]}")
    shown = [json.dumps(value, sort_keys=True) for value in values]
    for i, value in enumerate(values):
        if find_axes(value):
            raise SpecError(where, "a sweep stands inside a sweep", "name the inner field's path as an axis of its own")
        if shown[i] in shown[:i]:
            raise SpecError(where, f"the sweep holds {label(value)} twice", "leave one out")
    return values


def put(tree: Tree, path: Path, value: Any) -> None:
    """Set the node at ``path``, in place."""
    node: Any = tree
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


def settings(axes: Mapping[Path, list[Any]]) -> Iterator[dict[Path, Any]]:
    """The product of the axes, the first one slowest."""
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def set_all(tree: Tree, values: Mapping[Path, Any]) -> Tree:
    """A copy of the tree with each path set."""
    out = copy.deepcopy(tree)
    for path, value in values.items():
        put(out, path, value)
    return out


def is_local(path: Path) -> bool:
    """Whether an axis belongs to one intervention alone."""
    return len(path) > 2 and path[0] == "interventions"
