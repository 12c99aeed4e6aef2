"""From the spec's ``tasks`` section to a family: its own options checked, its tasks chosen.

None of the families imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from patchboard.errors import SpecError
from patchboard.registry import suggest
from patchboard.spec.sections import TasksSection
from patchboard.spec.wording import spec_error
from patchboard.tasks.base import NULL, Family
from patchboard.tasks.families import FAMILIES


def build_family(section: TasksSection, embedded: bool) -> Family:
    """The family that the section names, with its tasks in the family's order and Null, if wanted, last.

    embedded: whether the model is the embedded one, which knows few words.
    Raises SpecError (unknown family, option or task) and TaskError (data that cannot be had).
    """
    family = FAMILIES.get(section.family, "tasks.family")
    options = _options(section, family)
    tasks = _chosen(section, family.task_names(options))
    return family.build(options, (*tasks, NULL) if section.include_null else tasks, embedded)


def _options(section: TasksSection, family: Any) -> Any:
    options = section.model_extra or {}
    own = list(family.Options.model_fields)
    for name in options:
        if name not in own:
            owners = [other for other, entry in FAMILIES.items() if name in entry.Options.model_fields]
            remedy = (
                f"it is an option of {' and '.join(owners)}: set family, or leave it out"
                if owners
                else suggest(name, [*TasksSection.model_fields, *own])
            )
            raise SpecError(f"tasks.{name}", f"unknown field '{name}' of family {section.family}", remedy)
    try:
        return family.Options.model_validate(options)
    except ValidationError as error:
        raise spec_error(error, family.Options, ("tasks",)) from None


def _chosen(section: TasksSection, known: Sequence[str]) -> tuple[str, ...]:
    """``only`` against the family's tasks: exact names first, then any case."""
    if section.only is None:
        return tuple(known)
    lowered = {name.lower(): name for name in known}
    wanted = set()
    for name in section.only:
        task = name if name in known else lowered.get(name.lower())
        if task is None:
            remedy = "use include_null for it" if name.lower() == NULL.lower() else suggest(name, known)
            raise SpecError("tasks.only", f"family {section.family} has no task '{name}'", remedy)
        wanted.add(task)
    return tuple(name for name in known if name in wanted)
