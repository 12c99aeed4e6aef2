"""A plain tree -> Study: every point and variant validated, defaults filled in, digest taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from patchboard.errors import SpecError
from patchboard.plugin_files import activate, files_of_process
from patchboard.spec.axes import (
    Axes,
    Picks,
    Point,
    Study,
    Tree,
    Variant,
    find_axes,
    is_sweep,
    owner,
    picked,
    settings,
)
from patchboard.spec.controls import spelled_control
from patchboard.spec.digest import digest_of
from patchboard.spec.edits import InterventionSection
from patchboard.spec.fields import default_at
from patchboard.spec.overrides import applied
from patchboard.spec.paths import FieldPath, at_path, format_path
from patchboard.spec.refusal import InvalidValue, only_once
from patchboard.spec.section import Section
from patchboard.spec.sections import Spec
from patchboard.spec.values import shown
from patchboard.spec.wording import Complaint, complaints, first_of
from patchboard.spec.yaml_text import plain
from patchboard.user_paths import expanded

S = TypeVar("S", bound=Section)
Chosen = dict[tuple[int, ...], S]
"""Index of the value on each axis -> the section validated there, in product order."""


def study_of(
    tree: Mapping[str, Any],
    overrides: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Study:
    """The study that a tree of plain data describes, after ``path -> value`` overrides, its plug-ins active.

    folder: where the tree's own plug-ins lie (default: the working directory).
    Raises SpecError, one for all that is wrong: the first complaint, and how many more there are. What an
    override set is named by its flag, a swept value by its entry (``prompts.shots.sweep[1]``). PluginError.
    """
    flags: dict[FieldPath, str] = {}

    def where(path: FieldPath) -> str:
        setters = [p for p in flags if p == path[: len(p)]]
        if not setters:
            return format_path(path) or "spec"
        nearest = max(setters, key=len)
        return format_path(path[len(nearest) :], flags[nearest])

    try:
        if not isinstance(tree, Mapping):
            raise InvalidValue(f"found {shown(tree)}, expected a mapping", "see docs/spec.md for an example")
        raw, flags = applied(_spelled(plain(tree)), overrides or {})
        of_tree = Path() if ("plugins",) in flags else folder or Path()
        return _study(_with_plugins(_spelled(raw), of_tree), where)
    except InvalidValue as refusal:
        raise SpecError(where(refusal.at), refusal.what, refusal.remedy) from None


def _with_plugins(raw: Tree, folder: Path) -> Tree:
    """The tree with its plug-ins, and the command line's, as whole paths, read and active: the spec may name pieces."""
    own = raw.get("plugins", [])
    if not isinstance(own, list) or not all(isinstance(each, str) for each in own):
        raise InvalidValue(f"found {shown(own)}, expected a list of files", "write plugins: [my_ops.py]", ("plugins",))
    files = list(dict.fromkeys([*((folder / expanded(each)).resolve() for each in own), *files_of_process()]))
    activate(files)
    return {**raw, "plugins": [str(file) for file in files]} if files else raw


def _study(raw: Tree, where: Callable[[FieldPath], str]) -> Study:
    axes = find_axes(raw)
    shared = {path: values for path, values in axes.items() if owner(path) is None}
    complaints: list[Complaint] = []
    specs = _validated(Spec, raw, (), axes, shared, "points", complaints)
    sections: dict[str, Chosen[InterventionSection]] = {}
    named = raw.get("interventions")
    for name, node in named.items() if isinstance(named, dict) else ():
        own = {path: values for path, values in axes.items() if owner(path) == name}
        at = ("interventions", name)
        sections[name] = _validated(InterventionSection, node, at, axes, own, f"variants of {name}", complaints)
    if complaints:
        raise first_of(complaints, where)
    values = _resolved_values(axes, specs, sections)
    variants = tuple(
        Variant(name, section, _swept(axes, values, name, chosen))
        for name, settled in sections.items()
        for chosen, section in settled.items()
    )
    points = tuple(Point(spec, _swept(axes, values, None, chosen), variants) for chosen, spec in specs.items())
    tree = _merged(raw, _as_tree(points[0].spec), values)
    named_axes = {format_path(path): values[path] for path in axes}
    return Study(tree, named_axes, points, digest_of(tree), points[0].spec.name)


def _validated(
    kind: type[S], node: Any, at: FieldPath, axes: Axes, varied: Axes, whose: str, found: list[Complaint]
) -> Chosen[S]:
    """The node at ``at``, validated at every setting of the ``varied`` axes; complaints go into ``found``."""
    settled: Chosen[S] = {}
    for picks in settings(varied, whose):
        try:
            settled[tuple(picks.values())] = kind.model_validate(picked(node, picks, at))
        except ValidationError as error:
            everywhere = dict.fromkeys(axes, 0) | picks
            for c in complaints(error, kind, at):
                found.append(Complaint(_in_sweep(c.path, everywhere), c.what, c.remedy))
    return settled


def _in_sweep(path: FieldPath, picks: Picks) -> FieldPath:
    """The path as the file has it: what stands under an axis stands in an entry of its sweep."""
    for axis, index in picks.items():
        if axis == path[: len(axis)]:
            return (*axis, "sweep", index, *path[len(axis) :])
    return path


def _resolved_values(
    axes: Axes, specs: Chosen[Spec], sections: Mapping[str, Chosen[InterventionSection]]
) -> dict[FieldPath, list[Any]]:
    """Axis -> its values as validation left them (defaults filled in, 1 made 1.0). Refuses repeated ones."""
    resolved: dict[FieldPath, list[Any]] = {}
    for axis, values in axes.items():
        name = owner(axis)
        peers = [path for path in axes if owner(path) == name]
        entries = []
        for i in range(len(values)):
            chosen = tuple(i if path == axis else 0 for path in peers)
            tree = _as_tree(sections[name][chosen] if name else specs[chosen])
            entries.append(_value_at(tree, axis[2:], InterventionSection) if name else _value_at(tree, axis, Spec))
        try:
            only_once(entries)
        except InvalidValue as refusal:
            raise refusal.inside(*axis, "sweep") from None
        resolved[axis] = entries
    return resolved


def _value_at(tree: Tree, path: FieldPath, root: type[Section]) -> Any:
    """What stands at a field's path; where a section leaves the field untold, its default."""
    told = at_path(tree, path[:-1]) if path else None
    return at_path(tree, path) if not isinstance(told, dict) or path[-1] in told else default_at(root, path)


def _swept(
    axes: Axes, values: Mapping[FieldPath, list[Any]], name: str | None, chosen: tuple[int, ...]
) -> dict[str, Any]:
    peers = [path for path in axes if owner(path) == name]
    return {format_path(path): values[path][i] for path, i in zip(peers, chosen, strict=True)}


def _as_tree(section: Section) -> Tree:
    """Plain data that validates to the same section."""
    if isinstance(section, InterventionSection):
        # an intervention has either `edits` or the other fields, and a vector one of its kinds
        included = {"edits"} if section.edits is not None else None
        return section.model_dump(include=included, exclude_none=True)
    tree = section.model_dump()
    if isinstance(section, Spec):
        tree["interventions"] = {name: _as_tree(entry) for name, entry in section.interventions.items()}
    return tree


def _merged(raw: Any, resolved: Any, values: Mapping[FieldPath, list[Any]], path: FieldPath = ()) -> Any:
    """``resolved`` with the sweeps of ``raw`` in place and keys in its order, which is that of the axes."""
    if is_sweep(raw):
        return {"sweep": values[path]}
    if isinstance(raw, dict) and isinstance(resolved, dict):
        # a swept field may be absent from `resolved`, where its first value is null
        own = [key for key in raw if key in resolved or is_sweep(raw[key])]
        keys = [*own, *(key for key in resolved if key not in raw)]
        return {key: _merged(raw.get(key), resolved.get(key), values, (*path, key)) for key in keys}
    if isinstance(raw, list) and isinstance(resolved, list):
        return [_merged(r, s, values, (*path, i)) for i, (r, s) in enumerate(zip(raw, resolved, strict=True))]
    return resolved


def _spelled(tree: Tree) -> Tree:
    """The tree with every control as a mapping with a ``name``: paths into it are those of the result."""

    def each(node: Any, spell: Callable[[Any], Any]) -> Any:
        if is_sweep(node) and isinstance(node["sweep"], list):
            return {"sweep": [spell(entry) for entry in node["sweep"]]}
        return spell(node)

    def spell_list(node: Any) -> Any:
        return [each(entry, spelled_control) for entry in node] if isinstance(node, list) else node

    return {**tree, "controls": each(tree["controls"], spell_list)} if "controls" in tree else tree
