"""What all sections of the spec have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from patchboard.spec.refusal import only_once

Count = Annotated[int, Field(ge=1)]
Shots = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""At most what a column of Int64 holds."""


def _differ(values: list[Any]) -> list[Any]:
    only_once(values)
    return values


Differing = AfterValidator(_differ)
"""Of a list: no entry twice."""


def exactly_one(*fields: str) -> dict[str, Any]:
    """For the JSON Schema: one of the fields is given, and not as null."""
    alternatives = [{"required": [field], "properties": {field: {"not": {"type": "null"}}}} for field in fields]
    return {"oneOf": alternatives}


class Section(BaseModel):
    """Unknown keys are refused, nothing is coerced (``true`` is no 1), nothing changes after."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
