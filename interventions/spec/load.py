"""YAML -> Study. Every wrong spec is one SpecError: field path, what was found against what is expected, remedy."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path as File
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from interventions.errors import SpecError
from interventions.spec.axes import (
    Path,
    Point,
    Study,
    Tree,
    Variant,
    dotted,
    find_axes,
    is_local,
    put,
    set_all,
    settings,
)
from interventions.spec.layers import check_layers, check_position
from interventions.spec.overrides import apply_overrides
from interventions.spec.sections import Spec
from interventions.spec.wording import spec_error


def read_yaml(text: str, where: str) -> Any:
    """A YAML 1.2 document as plain data. Raises SpecError with file and line."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        mark = error.problem_mark
        key = str(error.problem).split('"')[1] if '"' in str(error.problem) else "a key"
        raise SpecError(f"{where}:{mark.line + 1}", f"'{key}' is given twice", "leave one out") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        tab = "\t" in (text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else "")
        raise SpecError(
            f"{where}{line}",
            f"not valid YAML ({error.problem})",
            "indent with spaces, not tabs" if tab else "mend that line",
        ) from None
    except YAMLError as error:
        raise SpecError(where, f"not valid YAML ({str(error).splitlines()[0]})", "mend the file") from None


def dump_yaml(tree: Tree) -> str:
    out = io.StringIO()
    writer = YAML()
    writer.default_flow_style = None
    writer.width = 110
    writer.dump(tree, out)
    return out.getvalue()


def load_study(file: File | str, overrides: Mapping[str, Any] | None = None) -> Study:
    """The study that a spec file describes. Raises SpecError."""
    try:
        text = File(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(str(file), f"cannot be read ({reason})", "give the path of a YAML spec") from None
    tree = read_yaml(text, str(file))
    if not isinstance(tree, dict):
        raise SpecError(str(file), f"holds {_kind(tree)}, expected a mapping", "see `patchboard init` for an example")
    return study_of(tree, overrides)


def _kind(value: Any) -> str:
    return {type(None): "nothing", list: "a list", str: "text"}.get(type(value), type(value).__name__)


def study_of(tree: Tree, overrides: Mapping[str, Any] | None = None) -> Study:
    """The study of a tree as YAML gives it, with ``path -> value`` overrides. Raises SpecError."""
    tree = apply_overrides(tree, overrides or {})
    axes = find_axes(tree)
    first = set_all(tree, {path: values[0] for path, values in axes.items()})
    resolved = _validated(first).model_dump(mode="json")
    # sweeps go back in after defaults are filled; paths of lists and short forms are the user's own
    points = tuple(_points(tree, axes))
    for path, values in axes.items():
        put(resolved, path, {"sweep": values})
    return Study(resolved, {dotted(path): values for path, values in axes.items()}, points, digest(resolved))


def _points(tree: Tree, axes: Mapping[Path, list[Any]]):
    global_axes = {path: values for path, values in axes.items() if not is_local(path)}
    for chosen in settings(global_axes):
        here = set_all(tree, chosen)
        local = {path: values for path, values in find_axes(here).items()}
        spec = _validated(set_all(here, {path: values[0] for path, values in local.items()}))
        variants = []
        for name in spec.interventions:
            own = {path: values for path, values in local.items() if path[1] == name}
            for setting in settings(own):
                rest = {path: values[0] for path, values in local.items() if path not in own}
                section = _validated(set_all(here, {**rest, **setting})).interventions[name]
                variants.append(Variant(name, section, {dotted(p): v for p, v in setting.items()}))
        yield Point(spec, {dotted(p): v for p, v in chosen.items()}, tuple(variants))


def _validated(tree: Tree) -> Spec:
    try:
        spec = Spec.model_validate(tree)
    except ValidationError as error:
        raise spec_error(error, Spec) from None
    for name, section in spec.interventions.items():
        several = section.edits is not None
        for i, part in enumerate(section.parts):
            where = f"interventions.{name}" + (f".edits[{i}]" if several else "")
            check_layers(part.layers, f"{where}.layers")
            check_position(part.position, f"{where}.position")
    return spec


def digest(tree: Tree) -> str:
    """Identity of a run: the resolved spec without its name, in canonical JSON, as sha256 hex."""
    science = {key: value for key, value in tree.items() if key != "name"}
    return hashlib.sha256(json.dumps(science, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
