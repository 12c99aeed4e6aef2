"""``{sweep: [v1, v2]}`` anywhere in a spec makes an axis; a study is the product of its axes.

Axes under ``interventions.<name>`` vary that intervention alone (its variants); all others vary the
whole point. So a sweep over one intervention's strength does not repeat the rest of the run.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchboard.spec.edits import EditSection, InterventionSection
from patchboard.spec.paths import FieldPath
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.sections import Spec
from patchboard.spec.values import label as label
from patchboard.spec.values import shown

Tree = dict[str, Any]
Axes = dict[FieldPath, list[Any]]
Picks = dict[FieldPath, int]
"""Axis -> index of the chosen value."""

MOST = 10_000
"""Points, or variants of an intervention, at most: beyond it a sweep is a slip rather than a study."""


@dataclass(frozen=True)
class Variant:
    """One intervention at one setting of its own axes."""

    name: str
    section: InterventionSection
    swept: Mapping[str, Any]
    """Path of each of its axes -> value."""

    @property
    def where(self) -> str:
        """Its path in the spec."""
        return f"interventions.{self.name}"

    @property
    def located_edits(self) -> tuple[tuple[str, EditSection], ...]:
        """Each of its edits behind that edit's path in the spec."""
        several = self.section.edits is not None
        paths = [f"{self.where}.edits[{i}]" if several else self.where for i in range(len(self.section.parts))]
        return tuple(zip(paths, self.section.parts, strict=True))


@dataclass(frozen=True)
class Point:
    """One setting of the global axes."""

    spec: Spec
    """Plain values only; ``spec.interventions`` holds each intervention's first variant."""
    swept: Mapping[str, Any]
    """Path of each global axis -> value."""
    variants: tuple[Variant, ...]
    """Interventions in the spec's order, each at every setting of its own axes."""


@dataclass(frozen=True)
class Study:
    """A spec file, understood."""

    tree: Tree
    """The resolved spec: every default filled in, one spelling of everything, sweeps in place."""
    axes: Mapping[str, list[Any]]
    """Path -> values of every axis, in the file's order; the first varies slowest."""
    points: tuple[Point, ...]
    digest: str
    name: str

    @property
    def plugins(self) -> tuple[Path, ...]:
        """The plug-in files that it names, as whole paths."""
        return tuple(Path(file) for file in self.tree["plugins"])


def is_sweep(node: Any) -> bool:
    return isinstance(node, dict) and set(node) == {"sweep"}


def find_axes(tree: Any, path: FieldPath = ()) -> Axes:
    """Every sweep node of the tree with its values, in the order of the file.

    Raises InvalidValue at the node for a sweep that is malformed or stands where none is meant.
    """
    if isinstance(tree, dict) and "sweep" in tree:
        return {path: _values(tree, path)}
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    axes: Axes = {}
    for key, value in entries:
        axes |= find_axes(value, (*path, key))
    return axes


def _values(node: Tree, path: FieldPath) -> list[Any]:
    values = node["sweep"]
    if not is_sweep(node):
        beside = ", ".join(key for key in node if key != "sweep")
        raise InvalidValue(f"found sweep beside {beside}, expected it alone", "write {sweep: [v1, v2]}", path)
    if path[:1] == ("interventions",) and len(path) < 3:
        # its variants would share one name, and results could not tell them apart
        raise InvalidValue("an intervention cannot be swept as a whole", "name each, or sweep its fields", path)
    if path in ((), ("version",), ("name",)):
        raise InvalidValue("found a sweep where none is meant", "sweep a field of a section", path)
    if not isinstance(values, list) or not values:
        raise InvalidValue(f"sweeps {shown(values)}, expected a list of values", "write {sweep: [v1, v2]}", path)
    for i, value in enumerate(values):
        if _holds_sweep(value):
            remedy = "sweep the outer field over plain values, or the inner fields alone"
            raise InvalidValue("found a sweep inside a sweep", remedy, (*path, "sweep", i))
    return values


def _holds_sweep(node: Any) -> bool:
    if isinstance(node, dict):
        return "sweep" in node or any(map(_holds_sweep, node.values()))
    return isinstance(node, list) and any(map(_holds_sweep, node))


def owner(path: FieldPath) -> str | None:
    """The intervention whose variants the axis makes, or None where it makes points."""
    return str(path[1]) if path[0] == "interventions" else None


def settings(axes: Axes, whose: str) -> Iterator[Picks]:
    """The product of the axes, the first one slowest. Raises InvalidValue where it is larger than MOST."""
    size = math.prod(map(len, axes.values()))
    if size > MOST:
        raise InvalidValue(f"the sweeps span {size} {whose}, expected at most {MOST}", "sweep less at once")
    for indices in itertools.product(*(range(len(values)) for values in axes.values())):
        yield dict(zip(axes, indices, strict=True))


def picked(node: Any, picks: Picks, path: FieldPath = ()) -> Any:
    """A copy of the tree with each sweep node replaced by the value that ``picks`` names (else its first)."""
    if is_sweep(node):
        return picked(node["sweep"][picks.get(path, 0)], picks)
    if isinstance(node, dict):
        return {key: picked(value, picks, (*path, key)) for key, value in node.items()}
    if isinstance(node, list):
        return [picked(value, picks, (*path, i)) for i, value in enumerate(node)]
    return node
