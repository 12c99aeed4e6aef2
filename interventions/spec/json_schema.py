"""JSON Schema of a spec file, for editors that check YAML while one types."""

from __future__ import annotations

from typing import Any

from interventions.spec.sections import Spec


def json_schema() -> dict[str, Any]:
    """pydantic's schema of Spec in which any field may also be ``{sweep: [...]}`` and a control a name."""
    schema = Spec.model_json_schema()
    schema["title"] = "patchboard spec, version 1"
    schema["$defs"]["Sweep"] = {
        "type": "object",
        "properties": {"sweep": {"type": "array", "minItems": 1}},
        "required": ["sweep"],
        "additionalProperties": False,
    }
    control = schema["properties"]["controls"]["items"]
    options = dict(schema["$defs"]["ControlSection"]["properties"])
    del options["name"]
    by_name = {"type": "object", "properties": options, "additionalProperties": False}
    named = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": by_name}
    schema["properties"]["controls"]["items"] = {"anyOf": [control, {"type": "string"}, named]}
    for section in (schema, *(d for name, d in schema["$defs"].items() if name != "Sweep")):
        for name, field in section.get("properties", {}).items():
            section["properties"][name] = _or_sweep(field)
    return schema


def _or_sweep(field: dict[str, Any]) -> dict[str, Any]:
    kept = {key: field.pop(key) for key in ("description", "default", "title") if key in field}
    return {**kept, "anyOf": [field, {"$ref": "#/$defs/Sweep"}]}
