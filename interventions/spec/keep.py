"""``keep``: an intervention is made at all heads but the first of a ranking."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from patchboard.spec.head_pairs import check_pairs
from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Section
from patchboard.spec.values import shown
from patchboard.spec.wording import complaints

FIRST = "keep.first"
"""The field that is swept for a curve, below the intervention."""


class RunRanking(Section):
    """``{run: runs/ioi, intervention: heads}``: heads by their effects in a finished run, pooled over tasks."""

    run: str = Field(description="the run's folder")
    intervention: str = Field(description="its intervention on one head a cell")
    metric: str | None = Field(default=None, description="whose effects rank; default: the first of that run's")
    by: Literal["size", "fall", "rise"] = Field(
        default="size",
        description="which come first: size: the largest effects up or down; fall: those that lower the metric most;"
        " rise: those that raise it most",
    )


def _ranking(value: Any) -> Any:
    """Both kinds are checked here, before the union: a wrong value gets one complaint and not one a kind."""
    if isinstance(value, dict):
        try:
            return RunRanking.model_validate(value)
        except ValidationError as error:
            first = complaints(error, RunRanking)[0]
            raise InvalidValue(first.what, first.remedy, first.path) from None
    if isinstance(value, RunRanking):
        return value
    if value is None:
        raise InvalidValue("is missing", "write [[layer, head], …], or {run: FOLDER, intervention: NAME}")
    return check_pairs(value)


def _first(value: Any) -> Any:
    if value != "all" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InvalidValue(f"found {shown(value)}, expected how many heads", "write 0, a whole number above it, or all")
    return value


class Keep(Section):
    """``{ranking: [[9, 9], [9, 6]], first: 2}``: these heads stay as they are, the edit is made at all others."""

    ranking: Annotated[
        RunRanking | list[Annotated[list[int], Field(min_length=2, max_length=2)]], BeforeValidator(_ranking)
    ] = Field(description="[layer, head] pairs, the most important first; or a finished run's effects")
    first: Annotated[int | Literal["all"], BeforeValidator(_first)] = Field(
        description="how many of the ranking are kept; 0: none; all: every head, which is the clean run"
    )
