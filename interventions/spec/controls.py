"""A control as a spec may write it: by its name, or with options under it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Count, Section
from patchboard.spec.values import shown


class ControlSection(Section):
    """A control by name; its own options are checked by it."""

    model_config = ConfigDict(extra="allow")

    name: str
    draws: Count = Field(default=1, description="of random and random_subspace: independent draws")


class ControlOptions(Section):
    model_config = ConfigDict(extra="allow")

    draws: Count = 1


def spelled_control(value: Any) -> Any:
    """``random`` or ``{random: {draws: 3}}`` -> a ControlSection's fields; anything else as it is."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        (name, options), *_ = value.items()
        if options is None or (isinstance(options, dict) and "name" not in options):
            return {"name": name, **(options or {})}
    return value


def _control(value: Any) -> Any:
    value = spelled_control(value)
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        (name, options), *_ = value.items()
        raise InvalidValue(f"found {shown(options)}, expected a mapping", f"write {name}: {{draws: 3}}", (name,))
    return value


Control = Annotated[
    ControlSection,
    BeforeValidator(
        _control,
        json_schema_input_type=str
        | ControlSection
        | Annotated[dict[str, ControlOptions | None], Field(min_length=1, max_length=1)],
    ),
]
