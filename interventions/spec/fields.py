"""Which fields a spec has at a path, read off the sections, so that no list of names is kept twice."""

from __future__ import annotations

import difflib
import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from patchboard.registry import suggest
from patchboard.spec.paths import FieldPath, format_path

Kinds = tuple[Any, ...]
"""The types that a value may have, unions taken apart: (int,), (DecodabilitySection, NoneType)."""


def kinds_at(root: type[BaseModel], path: FieldPath) -> Kinds:
    """What may stand at ``path`` below ``root``; empty where no spec has such a path.

    ``sweep`` and its entries stand for the field that is swept.
    """
    kinds: Kinds = (root,)
    swept = False
    for part in path:
        below = tuple(k for kind in kinds for k in _below(kind, part))
        if below:
            kinds, swept = below, False
        elif part == "sweep":
            swept = True
        elif not (swept and isinstance(part, int)):
            return ()
    return kinds


def section_of(kinds: Kinds) -> type[BaseModel] | None:
    """The first section among ``kinds``."""
    return next(iter(sections_of(kinds)), None)


def sections_of(kinds: Kinds) -> list[type[BaseModel]]:
    """The sections among ``kinds``."""
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]


def default_at(root: type[BaseModel], path: FieldPath) -> Any:
    """The default of the section's field at ``path``; None where there is none."""
    section = section_of(kinds_at(root, path[:-1]))
    field = section.model_fields.get(str(path[-1])) if section and path else None
    return field.get_default() if field and not field.is_required() else None


def unknown_key(root: type[BaseModel], path: FieldPath) -> tuple[str, str]:
    """(what, remedy) for a last part of ``path`` that its section does not have."""
    key, above, holder = str(path[-1]), format_path(path[:-1]), kinds_at(root, path[:-1])
    what, section = f"unknown key '{key}'", section_of(holder)
    if section is None:
        if any(get_origin(kind) is list for kind in holder):
            return what, f"{above} is a list, count its entries from 0"
        return what, f"{above} is a single value"
    fields = {name: field for kind in sections_of(holder) for name, field in kind.model_fields.items()}
    inner = {name: section_of(_kinds(field.annotation)) for name, field in fields.items()}
    homes = [name for name, below in inner.items() if below is not None and key in below.model_fields]
    if homes and not difflib.get_close_matches(key, fields, n=1, cutoff=0.9):
        return what, f"write it under {' or '.join(homes)}"
    return what, suggest(key, fields)


def _below(kind: Any, part: str | int) -> Kinds:
    """The kinds of an entry of ``kind``."""
    if kind is Any:
        return (Any,)
    if get_origin(kind) is list:
        return _kinds(get_args(kind)[0]) if isinstance(part, int) else ()
    if get_origin(kind) is dict:
        return _kinds(get_args(kind)[1]) if isinstance(part, str) and part != "sweep" else ()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if part in kind.model_fields:
            return _kinds(kind.model_fields[str(part)].annotation)
        return (Any,) if kind.model_config.get("extra") == "allow" and part != "sweep" else ()
    return ()


def _kinds(annotation: Any) -> Kinds:
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for branch in get_args(annotation) for kind in _kinds(branch))
    return (annotation,)
