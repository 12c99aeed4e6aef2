"""pydantic's findings in one line of the user's words."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from interventions.errors import SpecError
from interventions.registry import suggest
from interventions.spec.axes import dotted, label

_EXPECTED = {
    "int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number",
    "string_type": "text", "bool_type": "true or false", "list_type": "a list", "dict_type": "a mapping",
    "model_type": "a mapping", "model_attributes_type": "a mapping",
}  # fmt: skip


def spec_error(error: ValidationError, root: type[BaseModel], prefix: tuple[str | int, ...] = ()) -> SpecError:
    """The first finding as a SpecError; further ones are counted."""
    findings = error.errors(include_url=False)
    chosen = _most_telling(findings)
    path = _user_path(chosen["loc"])
    where, what, remedy = _words(chosen, path, root, findings)
    others = len({_user_path(f["loc"]) for f in findings} - {path})
    more = f" (and {others} more)" if others else ""
    return SpecError(dotted((*prefix, *where)) or "spec", what, remedy + more)


def _most_telling(findings: Sequence[Any]) -> Any:
    """Of a union's branches the deepest finding is meant; else the first."""
    first = findings[0]
    same = [f for f in findings if _user_path(f["loc"])[: len(_user_path(first["loc"]))] == _user_path(first["loc"])]
    return max(same, key=lambda f: len(_user_path(f["loc"])))


_BRANCHES = {
    "str",
    "int",
    "Together",
    "list[int]",
    "list[union[str,int]]",
    "list[union[int,str]]",
    "function-before",
    "constrained-str",
}


def _user_path(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """The location without the names that pydantic gives to the branches of a union."""
    return tuple(
        p for p in location if not (isinstance(p, str) and (p in _BRANCHES or p.startswith(("function-", "list["))))
    )


def _words(
    finding: Any, path: tuple[str | int, ...], root: type[BaseModel], findings: Sequence[Any]
) -> tuple[tuple[str | int, ...], str, str]:
    kind, given, context = finding["type"], finding.get("input"), finding.get("ctx", {})
    if kind == "extra_forbidden":
        known = known_keys(root, path[:-1])
        return path, f"unknown field '{path[-1]}'", suggest(str(path[-1]), known)
    if kind == "missing":
        return path, "is missing", "add it"
    if kind == "value_error":
        what, _, remedy = str(context.get("error", finding["msg"])).partition("; ")
        return path, what, remedy or "mend it"
    if kind == "literal_error":
        if path == ("version",):
            return path, f"found {label(given)}, this package reads version 1", "set version: 1"
        choices = context["expected"].replace("'", "").replace(" or ", ", ")
        return path, f"unknown value {_shown(given)}", suggest(str(given), [c.strip() for c in choices.split(",")])
    if kind in _EXPECTED:
        expected = _EXPECTED[kind]
        branches = {_EXPECTED[f["type"]] for f in findings if _user_path(f["loc"]) == path and f["type"] in _EXPECTED}
        if len(branches) > 1:
            expected = ", ".join(sorted(branches)[:-1]) + " or " + sorted(branches)[-1]
        if isinstance(given, list) and "a list" not in branches:
            return path, f"found a list, expected {expected}", f"write {{sweep: {label(given)}}} to sweep over it"
        return path, f"found {_shown(given)}, expected {expected}", "correct it"
    if kind in ("greater_than_equal", "greater_than", "less_than", "less_than_equal"):
        bound = next(iter(context.values()))
        relation = (
            kind.replace("_", " ")
            .replace("than equal", "or equal")
            .replace("greater or", "at least or")
            .replace("or equal", "")
            .strip()
        )
        relation = {
            "at least": "at least",
            "greater than": "more than",
            "less than": "less than",
            "less": "at most",
        }.get(relation, relation)
        return path, f"found {label(given)}, expected {relation} {bound}", "correct it"
    if kind == "too_short":
        return (
            path,
            f"holds {context.get('actual_length')} entries, expected at least {context.get('min_length')}",
            "add to it",
        )
    if kind == "too_long":
        return path, f"holds {context.get('actual_length')} entries, expected {context.get('max_length')}", "shorten it"
    if kind == "string_pattern_mismatch":
        return path, f"'{given}' has characters that a name cannot have", "use letters, digits, - and _"
    return path, finding["msg"][0].lower() + finding["msg"][1:], "correct it"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the text '{value}'"
    if isinstance(value, dict):
        return "a mapping"
    if value is None:
        return "nothing"
    return f"a list {label(value)}" if isinstance(value, list) else label(value)


def known_keys(root: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Fields of the section that ``path`` leads to from ``root``; empty where it leads to none."""
    annotation: Any = root
    for part in path:
        inner = _bare(annotation)
        if typing.get_origin(inner) in (list, dict):
            annotation = typing.get_args(inner)[-1]  # an entry, whatever its key
        elif _is_section(inner) and str(part) in inner.model_fields:
            annotation = inner.model_fields[str(part)].annotation
        else:
            return []
    inner = _bare(annotation)
    return list(inner.model_fields) if _is_section(inner) else []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _bare(annotation: Any) -> Any:
    """The section, list or mapping inside ``X | None`` or ``Annotated[X, …]``."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _bare(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        found = [_bare(argument) for argument in typing.get_args(annotation)]
        return next((a for a in found if _is_section(a) or typing.get_origin(a) in (list, dict)), annotation)
    return annotation
