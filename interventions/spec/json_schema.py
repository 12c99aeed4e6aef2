"""The JSON Schema of a spec file, for editors and for `patchboard schema`.

It is wider than loading in what a schema cannot say (products of sweeps, names where none are given).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from patchboard.spec.section import exactly_one
from patchboard.spec.sections import Spec
from patchboard.spec.vectors import KINDS, VECTOR_KINDS

Schema = dict[str, Any]

_FIXED = ("version", "name", "plugins", "interventions")
"""Fields of the file that are never swept as a whole."""

_SWEPT = "Sweepable"
"""Prefix of a section's second definition, in which every field may be swept. The first stays without
sweeps, for use inside a sweep, where no further one may stand."""


def json_schema(names: Mapping[str, Sequence[str]] | None = None) -> Schema:
    """The schema (draft 2020-12): Spec's own, in which a field may also be ``{sweep: [v1, v2]}``.

    names: what registries hold, of kinds ``op, metric, task, control, probe``; without a kind, any text may stand
    there. Kinds of vector and positions are those that are registered now.
    """
    schema = Spec.model_json_schema(mode="validation")
    plain = schema.pop("$defs")
    _add_vector_kinds(plain["VectorSection"])
    for kind, known in (names or {}).items():
        for text in _texts_of(kind, schema, plain):
            text["enum"] = list(known)
    # pydantic's patternProperties would let names of other patterns pass
    interventions = schema["properties"]["interventions"]
    ((pattern, entry),) = interventions.pop("patternProperties").items()
    interventions |= {"propertyNames": {"pattern": pattern}, "additionalProperties": _inside(entry)}
    schema["properties"] = {
        name: field if name in _FIXED else _sweepable(field) for name, field in schema["properties"].items()
    }
    swept = {_SWEPT + name: _inside(definition) for name, definition in plain.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "patchboard spec",
        "description": "A study: interventions on a language model, and what is measured.",
        "$defs": plain | swept,
    }


def _add_vector_kinds(section: Schema) -> None:
    """The fields of plug-ins' kinds of vector, in the schema of the section."""
    section["additionalProperties"] = False
    text = {"type": "string"}
    fields = {
        "task": text,
        "pair": {"type": "array", "items": text, "minItems": 2, "maxItems": 2, "uniqueItems": True},
        "tasks": {"const": "tasks", "type": "string"},
    }
    for name, kind in KINDS.items():
        if name in VECTOR_KINDS:
            continue
        section["properties"][name] = {"anyOf": [fields[kind.takes], {"type": "null"}], "default": None}
        section["oneOf"] += exactly_one(name)["oneOf"]
        for option, default in kind.options.items():
            section["properties"][option] = {"type": _TYPES[type(default)], "default": default}


_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}


def _texts_of(kind: str, schema: Schema, plain: Schema) -> list[Schema]:
    """Where a name of that kind stands, each as the schema of a text."""
    intervention, _ = plain["InterventionSection"]["properties"]["op"]["anyOf"]
    control, *_ = schema["properties"]["controls"]["items"]["anyOf"]
    texts = {
        "op": [plain["EditSection"]["properties"]["op"], intervention],
        "metric": [schema["properties"]["metrics"]["items"]],
        "task": [plain["TasksSection"]["properties"]["family"]],
        "control": [plain["ControlSection"]["properties"]["name"], control],
        "probe": [plain["DecodabilitySection"]["properties"]["probes"]["items"]],
    }[kind]
    assert all(each["type"] == "string" for each in texts), kind
    return texts


def _sweepable(schema: Schema) -> Schema:
    """``schema``, or a sweep over values of it; its title, description and default stay outermost."""
    notes = {key: value for key, value in schema.items() if key in ("title", "description", "default")}
    value = {key: value for key, value in schema.items() if key not in notes}
    sweep = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
    node = {"type": "object", "properties": {"sweep": sweep}, "required": ["sweep"]}
    return {**notes, "anyOf": [_inside(value), {**node, "additionalProperties": False}]}


def _inside(schema: Schema) -> Schema:
    """``schema`` with everything that it holds sweepable, but not itself."""
    out = dict(schema)
    if "$ref" in schema:
        out["$ref"] = schema["$ref"].replace("#/$defs/", f"#/$defs/{_SWEPT}")
    if "anyOf" in schema:
        out["anyOf"] = [_inside(branch) for branch in schema["anyOf"]]
    if "properties" in schema:
        out["properties"] = {name: _sweepable(field) for name, field in schema["properties"].items()}
    if "items" in schema:
        out["items"] = _sweepable(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        out["additionalProperties"] = _sweepable(schema["additionalProperties"])
    return out
