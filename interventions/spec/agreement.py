"""Whether a resolved spec holds the values that a sweep gave it: a command line may lose one without a word."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from patchboard.errors import SpecError
from patchboard.spec.axes import Tree, is_sweep
from patchboard.spec.fields import kinds_at
from patchboard.spec.paths import at_path, split_path
from patchboard.spec.sections import Spec
from patchboard.spec.study import study_of
from patchboard.spec.values import shown

SHORTHANDS = {"model": "model.name", "revision": "model.revision", "dtype": "model.dtype"}
"""Flags that stand for a path each; ``layers`` stands for those of every intervention of one edit."""


def check_given(tree: Tree, parameters: Mapping[str, Any]) -> None:
    """Raises SpecError where the resolved spec holds another value than it was given.

    parameters: path (or the name of a shorthand) -> value; names of flags that say how to run count as held. A value is
    held if setting it changes nothing, whatever its spelling.
    """
    model = tree["model"]
    # scripts that follow a model over checkpoints or sizes sweep it themselves
    of_script = any(is_sweep(model[field]) for field in ("name", "revision"))
    for name, value in parameters.items():
        for path in _paths(name, tree):
            if of_script and path.startswith("model.") and not is_sweep(value):
                continue
            if not _holds(tree, path, value):
                held = at_path(tree, tuple(int(part) if part.isdigit() else part for part in split_path(path)))
                what = f"the sweep gives {shown(value)}, the spec that ran holds {shown(held)}"
                raise SpecError(f"--{name}", what, "pass parameters by ${args}, and no path twice")


def _paths(name: str, tree: Tree) -> list[str]:
    """The paths that a parameter of this name sets; none for a flag that is no field of a spec."""
    if name == "layers":
        sections = tree["interventions"].items()
        return [f"interventions.{each}.layers" for each, section in sections if not section.get("edits")]
    path = SHORTHANDS.get(name, name)
    return [path] if kinds_at(Spec, split_path(path)[:1]) else []


def _holds(tree: Tree, path: str, value: Any) -> bool:
    parts = split_path(path)
    held = at_path(tree, parts)
    if path == "model.name" and isinstance(value, str) and isinstance(held, str):
        # a script may have found the folder beside itself, or in the user's home
        asked = tuple(part for part in Path(value).parts if part not in ("~", ".."))
        return Path(held).parts[-len(asked) :] == asked
    if parts[0] == "interventions" and parts[-1] == "layers" and isinstance(held, dict) and not isinstance(value, dict):
        value = {key: value for key in held}  # `--layers` keeps the kind: together, say
    try:
        again = study_of(tree, {path: value}).tree
    except SpecError:
        return False
    return _text(again) == _text(study_of(tree).tree)


def _text(tree: Tree) -> str:
    """As text 1, 1.0 and true differ."""
    return json.dumps(tree, sort_keys=True)
