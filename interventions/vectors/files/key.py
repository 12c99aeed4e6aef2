"""Which tensor of a file an edit takes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.vectors import PLACEHOLDERS, VectorSection
from patchboard.vectors.files.contents import Contents
from patchboard.vectors.files.layout import operand_keys

_OF_CONTROL_VECTORS = "direction.{layer}"


def pattern_of(vector: VectorSection, contents: Contents, where: str) -> str:
    """The vector's key, or what it is where the spec leaves it out. where: of the vector.

    Raises SpecError where it is left out and the file has several.
    """
    if vector.key is not None:
        return vector.key
    if contents.format == "gguf":
        return _OF_CONTROL_VECTORS
    keys = operand_keys(contents.shapes)
    if len(keys) != 1:
        what = f"is missing, '{vector.file}' has {len(keys)} vectors"
        raise SpecError(f"{where}.key", what, _remedy(keys, bool(contents.stamp.get("places"))))
    return keys[0]


def check_key(vector: VectorSection, contents: Contents, tasks: Sequence[str], where: str) -> list[str]:
    """The keys of the file that the vector's may stand for, with these tasks. Raises SpecError where there are none
    of a task."""
    pattern, keys, found = pattern_of(vector, contents, where), operand_keys(contents.shapes), []
    for task in tasks if "{task}" in pattern else [""]:
        form = pattern.replace("{task}", task)
        own = [key for key in keys if _is_of(form, key)]
        if not own:
            raise _unknown(form, keys, where)
        found += own
    return found


def key_of(vector: VectorSection, contents: Contents, task: str, layer: int, head: int, where: str) -> str:
    """The key of one edit's vector. layer: at which it was fitted; head: -1 for none.

    Raises SpecError where the file has none.
    """
    pattern = pattern_of(vector, contents, where)
    if "{head}" in pattern and head < 0:
        what = "has {head} in it, and the edit is of no head"
        raise SpecError(f"{where}.key", what, "use site: head, or another key")
    key = pattern
    for name, value in zip(PLACEHOLDERS, (task, layer, head), strict=True):
        key = key.replace(f"{{{name}}}", str(value))
    keys = operand_keys(contents.shapes)
    if key in keys:
        return key
    layers = _layers_of(pattern.replace("{task}", task), keys)
    if layers:
        what = f"'{vector.file}' has no '{key}'"
        raise SpecError(f"{where}.file", what, f"edit layers {', '.join(map(str, layers))} alone, or write fitted_at")
    raise _unknown(key, keys, where)


def _unknown(form: str, keys: Sequence[str], where: str) -> SpecError:
    near = suggest(form, keys) if keys else ""
    remedy = near if near.startswith("did you mean") else f"it has {_some(keys)}" if keys else "use another file"
    return SpecError(f"{where}.key", f"the file has no '{form}'", remedy)


def _is_of(form: str, key: str) -> bool:
    """Whether a key is one that the form, in which layer and head are open, stands for."""
    return re.fullmatch(_expression(form), key) is not None


def _layers_of(form: str, keys: Sequence[str]) -> list[int]:
    if "{layer}" not in form:
        return []
    matches = (re.fullmatch(_expression(form), key) for key in keys)
    return sorted({int(match["layer"]) for match in matches if match})


def _expression(form: str) -> str:
    text = re.escape(form)
    for name in ("layer", "head"):
        mark = re.escape(f"{{{name}}}")
        text = text.replace(mark, rf"(?P<{name}>\d+)", 1).replace(mark, rf"(?P={name})")
    return text


def _remedy(keys: Sequence[str], stamped: bool) -> str:
    """stamped: a file of ours, whose keys are intervention, task and layer."""
    if stamped and keys:
        intervention = next((key for key in keys if "~" not in key), keys[0]).rsplit("/", 2)[0]
        return f"write key: {intervention}/{{task}}/{{layer}}"
    return f"write key: {_some(keys)}" if keys else "use another file"


def _some(keys: Sequence[str]) -> str:
    return ", ".join(keys[:4]) + (", …" if len(keys) > 4 else "")
