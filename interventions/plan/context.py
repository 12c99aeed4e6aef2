"""What cells of one point and one task depend on beside the spec, and what a spec's names of tasks mean there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from patchboard.errors import SpecError
from patchboard.plan.facts import ModelFacts
from patchboard.spec.axes import Variant
from patchboard.spec.sections import ModelSection
from patchboard.spec.vectors import VectorSection
from patchboard.tasks.base import NULL

Answers = Literal["own", "shuffled"]
"""Whose outputs the demonstrations of fit prompts carry: their own, or each another one's."""

_VECTOR_FIELDS = ("vector", "site", "position", "neurons", "edits")


class FitSetting(NamedTuple):
    """Which prompts a vector is fitted on."""

    shots: int
    prompts: int
    answers: Answers = "own"
    texts: str = ""
    """A file of paired texts in place of prompts of the tasks."""
    others: bool = False
    """Whether the prompts know their answers under other tasks."""


@dataclass(frozen=True)
class Context:
    """What cells of one point and one task depend on, beside the spec."""

    task: str  # whose vectors are meant: the evaluated one, or a control's other one
    evaluated: str
    tasks: tuple[str, ...]  # of the family, Null last where included
    facts: ModelFacts
    fit_ids: Mapping[FitSetting, str]
    global_label: str  # "" or "@a=1,...": swept global fields that a vector depends on
    answers: Answers = "own"
    seed: int = 0  # of the prompts
    model: ModelSection = field(default_factory=ModelSection)
    shots: int = 0  # of the evaluated prompts
    shots_label: str = ""  # "prompts.shots=4" where they are swept

    @property
    def real(self) -> tuple[str, ...]:
        return tuple(task for task in self.tasks if task != NULL)

    def partner(self) -> str:
        """The other task whose vector controls this one: the next in the family's order."""
        return self.real[(self.real.index(self.task) + 1) % len(self.real)]

    def fit_of(self, vector: VectorSection) -> str:
        """Id of the fit that a vector is made from."""
        setting = setting_of(vector, self.answers if is_paired(vector) else "own", self.shots)
        if setting not in self.fit_ids:
            what = f"one asks for fit prompts with {setting.answers} answers, which are not made here"
            raise SpecError("controls", what, f"leave {setting.answers} out")
        return self.fit_ids[setting]


def setting_of(vector: VectorSection, answers: Answers, evaluated: int) -> FitSetting:
    """Which prompts a vector is fitted on. evaluated: demonstrations of the evaluated ones."""
    if vector.contrast is not None:
        return FitSetting(0, 0, texts=vector.contrast)
    shots = evaluated if vector.as_evaluated else vector.shots
    return FitSetting(shots, vector.prompts, answers, others=vector.das is not None)


def is_paired(vector: VectorSection) -> bool:
    """Whether it is fitted on demonstrations that pair inputs with answers by a rule: all are but those of Null alone,
    those of files and of a file's texts, and features that are chosen by number. One that is learned counts as none:
    its answers are what it is taught."""
    chosen_already = vector.sae is not None and vector.select is None
    given = vector.file is not None or vector.contrast is not None or chosen_already or vector.is_learned
    return not given and vector.sources not in (["null_task"], [NULL])


def resolve_source(source: str, context: Context) -> tuple[tuple[str, ...], str]:
    """Tasks that a source stands for, and how ``vector_task`` calls them."""
    if source == "same_task":
        return (context.task,), context.task
    if source == "other_task":
        return (context.partner(),), context.partner()
    if source == "null_task":
        return (NULL,), NULL
    if source == "all_tasks":
        return context.real, "ALL"
    return (source,), source


def vector_task(vector: VectorSection, context: Context) -> str:
    """How result rows call the tasks that a vector is made of."""
    if not vector.sources:
        return next((kind for kind in ("file", "contrast", "sae") if getattr(vector, kind)), "tasks")
    names = [resolve_source(s, context)[1] for s in vector.sources]
    return names[0] if len(names) == 1 or vector.sources[0] == "same_task" else "-".join(names)


def vector_label(variant: Variant, context: Context) -> str:
    """The intervention's part of a vector's key: its name, and the swept values that change the vector."""
    prefix = f"{variant.where}."
    own = [
        f"{path.removeprefix(prefix)}={value}"
        for path, value in variant.swept.items()
        if path.removeprefix(prefix).split(".")[0].split("[")[0] in _VECTOR_FIELDS
    ]
    of_shots = any(part.vector and part.vector.as_evaluated for part in variant.section.parts)
    parts = [*filter(None, (context.global_label, context.shots_label if of_shots else "")), *own]
    return variant.name + ("@" + ",".join(parts).replace("/", "|") if parts else "")
