"""Spec section -> family: the family's own options checked, its tasks chosen."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

import tasks.bitwise
import tasks.pairs
import tasks.pos  # noqa: F401  # these three enrol their families
from interventions.errors import SpecError
from interventions.registry import suggest
from interventions.spec.sections import TasksSection
from interventions.spec.wording import spec_error
from tasks.base import FAMILIES, NULL, Family


def build_family(section: TasksSection, embedded: bool) -> Family:
    """The family that the section names, with its chosen tasks. Raises SpecError or TaskError."""
    family = FAMILIES.get(section.family, "tasks.family")
    try:
        options = family.Options.model_validate(section.model_extra or {})
    except ValidationError as error:
        raise spec_error(error, family.Options, prefix=("tasks",)) from None
    names = family.task_names(options)
    chosen = _chosen(section.only, names)
    return family.build(options, (*chosen, NULL) if section.include_null else chosen, embedded)


def _chosen(only: Sequence[str] | None, names: Sequence[str]) -> tuple[str, ...]:
    """Tasks in the family's order; names are matched whatever their case."""
    if only is None:
        return tuple(names)
    known = {name.casefold(): name for name in names}
    wanted = set()
    for i, name in enumerate(only):
        if name.casefold() not in known:
            raise SpecError(f"tasks.only[{i}]", f"the family has no task '{name}'", suggest(name, names))
        wanted.add(known[name.casefold()])
    return tuple(name for name in names if name in wanted)
