"""``--a.b.c=value``: set that path of the spec, the value read as YAML."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from interventions.errors import SpecError
from interventions.registry import suggest
from interventions.spec.sections import Spec
from interventions.spec.wording import known_keys

Tree = dict[str, Any]
_OPEN = ("tasks",)
"""Sections whose further fields their family checks."""


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """``["--prompts.shots=4"]`` -> ``{"prompts.shots": 4}``. Raises SpecError naming the argument."""
    found: dict[str, Any] = {}
    for argument in arguments:
        match = re.fullmatch(r"--([A-Za-z0-9_.\-\[\]]+)=(.*)", argument, flags=re.DOTALL)
        if not match:
            name = argument.split("=")[0]
            remedy = f"write {name}=VALUE" if re.fullmatch(r"--[\w.\-]+", argument) else "see --help"
            raise SpecError(name, "is no flag and no path of the spec with a value", remedy)
        path, text = re.sub(r"\[(-?\d+)\]", r".\1", match[1]), match[2]
        try:
            # W&B hands booleans and None over as Python writes them; YAML 1.2 reads True, not None
            found[path] = None if text == "None" else YAML(typ="safe", pure=True).load(text)
        except YAMLError:
            raise SpecError(f"--{match[1]}", f"'{text}' is not valid YAML", "quote it for the shell") from None
    return found


def apply_overrides(tree: Tree, overrides: Mapping[str, Any]) -> Tree:
    """A copy of the tree with each dotted path set. Raises SpecError for a path that no spec has."""
    out = copy.deepcopy(tree)
    for path, value in overrides.items():
        _set(out, path.split("."), value, f"--{path}")
    return out


def _set(tree: Tree, parts: list[str], value: Any, flag: str) -> None:
    node: Any = tree
    for depth, part in enumerate(parts):
        final = depth == len(parts) - 1
        if isinstance(node, list):
            if not (part.lstrip("-").isdigit() and -len(node) <= int(part) < len(node)):
                raise SpecError(flag, f"the list has {len(node)} entries, '{part}' is none of them", "count from 0")
            key: Any = int(part)
        else:
            _check_known(node, parts, depth, flag)
            key = part
        if final:
            node[key] = value
            return
        inner = node[key] if isinstance(node, list) else node.get(key)
        if isinstance(inner, dict) and "sweep" in inner and parts[depth + 1] != "sweep":
            raise SpecError(flag, f"'{'.'.join(parts[: depth + 1])}' is swept as a whole", "override the whole of it")
        if not isinstance(inner, (dict, list)):
            if inner is not None and not known_keys(Spec, parts[: depth + 1]):
                raise SpecError(
                    flag, f"'{'.'.join(parts[: depth + 1])}' holds a value, not a section", "shorten the path"
                )
            inner = {}
            node[key] = inner
        node = inner


def _check_known(node: Tree, parts: list[str], depth: int, flag: str) -> None:
    part = parts[depth]
    if part in node or part == "sweep":
        return
    if parts[0] in _OPEN and depth > 0:
        return
    if parts[0] == "interventions" and depth == 1:
        raise SpecError(
            flag, f"there is no intervention '{part}'", suggest(part, node) if node else "name one in the spec first"
        )
    known = known_keys(Spec, parts[:depth])
    if part not in known:
        raise SpecError(flag, f"the spec has no field '{'.'.join(parts[: depth + 1])}'", suggest(part, known))
