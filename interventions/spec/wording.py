"""pydantic's findings in the user's words: path, what was found against what was expected, remedy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.fields import default_at, kinds_at, section_of, unknown_key
from patchboard.spec.paths import FieldPath, format_path
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.values import flow, shown

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "at least {}", "{} or more"),
    "greater_than": ("gt", "more than {}", "more than {}"),
    "less_than_equal": ("le", "at most {}", "{} or less"),
    "less_than": ("lt", "less than {}", "less than {}"),
}


@dataclass(frozen=True)
class Complaint:
    """One thing wrong with a spec."""

    path: FieldPath
    what: str
    remedy: str


def spec_error(error: ValidationError, root: type[BaseModel], prefix: FieldPath = ()) -> SpecError:
    """All findings of ``error`` as one SpecError; ``prefix`` is where ``root`` stands in the spec."""
    return first_of(complaints(error, root, prefix))


def first_of(complaints: Sequence[Complaint], where: Callable[[FieldPath], str] = format_path) -> SpecError:
    """The first complaint as an error, which says how many more there are."""
    distinct = list(dict.fromkeys(complaints))
    more = f" (and {len(distinct) - 1} more)" if len(distinct) > 1 else ""
    first = distinct[0]
    return SpecError(where(first.path) or "spec", first.what, first.remedy + more)


def complaints(error: ValidationError, root: type[BaseModel], prefix: FieldPath = ()) -> list[Complaint]:
    """Every finding of ``error``, a section's unknown keys before its missing ones (which they explain)."""
    worded = []
    for finding in error.errors(include_url=False):
        # "[key]" is pydantic's mark for a mapping's key; the key itself stands before it
        path = tuple(part for part in finding["loc"] if part != "[key]")
        refusal = finding.get("ctx", {}).get("error")
        if isinstance(refusal, InvalidValue):
            complaint = Complaint((*prefix, *path, *refusal.at), refusal.what, refusal.remedy)
        else:
            complaint = Complaint((*prefix, *path), *_worded(finding, path, root))
        worded.append((finding["type"], complaint))
    unknown_in = {complaint.path[:-1] for kind, complaint in worded if kind == "extra_forbidden"}
    # sorting is stable: only what an unknown key of the same section explains moves back
    worded.sort(key=lambda entry: entry[0] == "missing" and entry[1].path[:-1] in unknown_in)
    return [complaint for _, complaint in worded]


def _worded(finding: Any, path: FieldPath, root: type[BaseModel]) -> tuple[str, str]:
    kind, value, context = finding["type"], finding["input"], finding.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(root, path)
    if kind == "missing":
        return "is missing", "add it"
    if kind in _EXPECTED:
        return _wrong_type(_EXPECTED[kind], value, path, root)
    if kind in _BOUNDS:
        name, expected, remedy = _BOUNDS[kind]
        bound = context[name]
        return f"found {flow(value)}, expected {expected.format(bound)}", f"write {remedy.format(bound)}"
    if kind == "literal_error":
        return _wrong_choice(value, context["expected"])
    if kind in ("too_short", "too_long"):
        wanted = context["min_length"] if kind == "too_short" else context["max_length"]
        words, remedy = ("at least", "add to it") if kind == "too_short" else ("at most", "shorten it")
        return f"found a list of {context['actual_length']}, expected {words} {wanted}", remedy
    if kind == "string_pattern_mismatch":
        signs = "'.', '_' and '-'" if "." in context["pattern"] else "'_' and '-'"
        start = ", beginning with a letter or digit" if "." in context["pattern"] else ""
        return f"found {shown(value)}, expected letters, digits, {signs}{start}", "rename it"
    # a type of finding that no section raises today: pydantic's own words, on one line
    return f"found {shown(value)} ({' '.join(finding['msg'].split())})", "see `patchboard schema`"


def _wrong_type(expected: str, value: Any, path: FieldPath, root: type[BaseModel]) -> tuple[str, str]:
    kinds = kinds_at(root, path)
    section, nullable = section_of(kinds), type(None) in kinds
    if section is not None:
        expected += f" ({', '.join(section.model_fields)})"
    what = f"found {shown(value)}, expected {expected}"
    if isinstance(value, list):
        if expected == "a mapping":
            return what, "give each entry a name, as in {my_name: …}"
        return what, f"write {{sweep: {flow(value)}}} to sweep"
    if expected == "a list":
        return what, f"write [{flow(value)}]"
    if section is not None:
        first, field = next(iter(section.model_fields.items()))
        if isinstance(value, str) and str in kinds_at(section, (first,)):
            return what, f"write {{{first}: {flow(value)}}}"
        return (
            what,
            "write null to leave it out" if nullable else "remove it for its defaults, or give its keys",
        )
    if value is None:
        return what, "remove it for its default"
    if isinstance(value, dict) and expected != "text":
        return what, "write {sweep: [v1, v2]} to sweep" if len(value) == 1 else f"write {expected}"
    if expected == "text":
        return what, f"put it in quotes: '{flow(value)}'" if not isinstance(value, dict) else "write text"
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?[\d.]+(e[-+]?\d+)?\s*|true|false", value.lower()):
        return what, f"write {value.strip()} without quotes"
    default = default_at(root, path)
    return what, f"write {expected}" + (f" such as {default}" if type(default) in (int, float) else "")


def _wrong_choice(value: Any, expected: str) -> tuple[str, str]:
    if isinstance(value, list):
        return f"found {shown(value)}, expected {expected}", f"write {{sweep: {flow(value)}}} to sweep"
    choices = re.findall(r"'([^']*)'", expected)
    remedy = suggest(value, choices) if isinstance(value, str) else f"write {expected}"
    return f"found {shown(value)}, expected {expected}", remedy
