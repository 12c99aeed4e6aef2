"""``--a.b.c=value``: set that path of the spec, the value read as YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.axes import Tree, is_sweep
from patchboard.spec.fields import kinds_at, unknown_key
from patchboard.spec.paths import FieldPath, at_path, format_path, split_path
from patchboard.spec.refusal import refused_at
from patchboard.spec.sections import Spec
from patchboard.spec.yaml_text import parse_yaml, plain


def parse_overrides(
    arguments: Sequence[str], flags: Sequence[str] = (), exact: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """``["--prompts.shots=4"]`` -> ``{"prompts.shots": 4}``, in the order given.

    Values are YAML 1.2; ``True`` and ``None``, as W&B's agent writes them, are true and null. A value that is
    no YAML as it stands needs quotes of its own: ``--prompts.template.input='"{input} ->"'``.

    flags: the program's other flags (``--quiet``), for suggestions.
    exact: arguments -> the value that each was written from, where that is known: text like '1e-3' has lost its kind.
    Raises SpecError at the argument for anything but ``--path=value``, and for a path given twice.
    """
    values: dict[str, Any] = {}
    for argument in arguments:
        flag, equals, text = argument.partition("=")
        if not re.fullmatch(r"--\w[\w.\-\[\]]*", flag):
            raise SpecError(flag, "is no flag, expected --path=value", "set a field as in --prompts.shots=4")
        parts = split_path(flag.removeprefix("--"))
        if not all(parts) or any(set(part) & set("[]") for part in parts):
            raise SpecError(flag, "is no path of a field", "write it as in --prompts.shots=4 or --metrics.0=kl")
        if not kinds_at(Spec, parts[:1]):
            sections = [f"--{name}" for name in Spec.model_fields] if equals else []
            what = "is neither a flag nor a field of the spec"
            raise SpecError(flag, what, _nearest(flag, parts, [*flags, *sections]))
        if not equals:
            raise SpecError(flag, "has no value", f"write {flag}=VALUE")
        path = ".".join(parts)
        if path in values:
            raise SpecError(flag, "is given twice", "keep one")
        if exact and argument in exact:
            values[path] = exact[argument]
            continue
        try:
            values[path] = parse_yaml(text, flag, none_is_null=True)
        except SpecError as error:
            if not error.what.startswith("is no YAML"):
                raise
            remedy = f"quote it for YAML as well: {flag}='\"…\"'"
            raise SpecError(flag, f"the value '{text}' {error.what}", remedy) from None
    return values


def text_of_flag(text: str, flag: str) -> Any:
    """What a flag says that stands for a field of text: its text as it is, or YAML of a sweep.

    >>> text_of_flag("1234567", "--revision"), text_of_flag("{sweep: [step1, step2]}", "--revision")
    ('1234567', {'sweep': ['step1', 'step2']})
    """
    return parse_yaml(text, flag, none_is_null=True) if re.match(r"\s*\{\s*['\"]?sweep\b", text) else text


def _nearest(flag: str, parts: Sequence[str], known: Sequence[str]) -> str:
    first = "--" + parts[0]
    remedy = suggest(first, known)
    return remedy.replace("'?", flag.removeprefix(first) + "'?") if remedy.startswith("did") else remedy


def apply_overrides(tree: Mapping[str, Any], overrides: Mapping[str, Any]) -> Tree:
    """A copy of the raw tree with each path (``prompts.shots``, ``metrics.0``) set, missing sections created.

    Raises SpecError at ``--path`` for a path that no spec has, an intervention or an entry that is not there,
    and a field of a section that is swept as a whole. The values are checked with the rest of the spec.
    """
    with refused_at(""):
        copied = plain(tree)
    return applied(copied, overrides)[0]


def applied(tree: Tree, overrides: Mapping[str, Any]) -> tuple[Tree, dict[FieldPath, str]]:
    """As ``apply_overrides``, with the path that each flag came to; changes ``tree``."""
    flags: dict[FieldPath, str] = {}
    for path, value in overrides.items():
        parts = split_path(path)
        with refused_at(f"--{path}"):
            value = plain(value)
        flags[_place(tree, parts, value, f"--{path}")] = f"--{path}"
    return tree, flags


def _place(tree: Tree, parts: tuple[str, ...], value: Any, flag: str) -> FieldPath:
    node: Any = tree
    path: FieldPath = ()
    for depth, part in enumerate(parts):
        if len(path) == 2 and path[0] == "controls" and isinstance(node, dict) and node.get("name") == part:
            continue  # `controls.1.random.draws`, as the short form `{random: {draws: 3}}` suggests
        key = _key(node, part, path, flag, last=depth == len(parts) - 1)
        path = (*path, key)
        if depth == len(parts) - 1:
            node[key] = value
            return path
        below = node.get(key) if isinstance(node, dict) else node[key]
        if not (isinstance(below, dict) or (isinstance(below, list) and parts[depth + 1].isdigit())):
            below = node[key] = _created(path, parts[depth + 1], flag)
        node = below
    raise SpecError(flag, "names a control, not a field of it", "write draws behind it")


def _key(node: Any, part: str, path: FieldPath, flag: str, last: bool) -> str | int:
    """What ``part`` is in ``node``: an index in a list, else a key, if a spec may have it there."""
    here = format_path(path)
    if isinstance(node, list):
        if int(part) >= len(node):
            what = f"{here} has {len(node)} entries, counted from 0"
            raise SpecError(flag, what, f"set it whole: --{here}=[…]")
        return int(part)
    if is_sweep(node) and part != "sweep":
        raise SpecError(flag, f"{here} is swept as a whole", f"set it whole: --{here}=…")
    if path == ("interventions",) and part not in node and not last:
        remedy = suggest(part, node) if node else "name one in the spec first"
        raise SpecError(flag, f"the spec has no intervention '{part}'", remedy)
    if not kinds_at(Spec, (*path, part)):
        raise SpecError(flag, *unknown_key(Spec, (*path, part)))
    return part


def _created(path: FieldPath, following: str, flag: str) -> Any:
    """The container that a path leads through and the spec does not hold yet."""
    if not following.isdigit():
        return {}
    default = at_path(Spec().model_dump(), path)
    if not isinstance(default, list):
        here = format_path(path)
        raise SpecError(flag, f"{here} is no list in this spec", f"set it whole: --{here}=[…]")
    return default
