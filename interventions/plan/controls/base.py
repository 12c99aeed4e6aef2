"""What a control is: cells beside an intervention's own, at the same places, that tell what its effect owes to what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from pydantic import ValidationError

from patchboard.plan.cells import OWN, SAME, STATE, with_lent
from patchboard.plan.context import Answers, Context, vector_label, vector_task
from patchboard.plan.edit_sites import EditSite, EditSites
from patchboard.plan.path_patching import planned_edits
from patchboard.plan.planned_edits import PlannedEdit
from patchboard.plan.state_reads import donor_of
from patchboard.registry import Registry
from patchboard.spec.axes import Variant
from patchboard.spec.controls import ControlSection
from patchboard.spec.section import Section
from patchboard.spec.vectors import VectorSection
from patchboard.spec.wording import spec_error


@dataclass(frozen=True)
class LineStyle:
    """How figures draw a control's curve: told from others by colour, and in grey print by dashes and marker."""

    colour: str
    dashes: Literal["-", "--", "-.", ":"]
    marker: str


@dataclass(frozen=True)
class PlacedIntervention:
    """One variant of an intervention at the places of one of its cells, for one task."""

    variant: Variant
    sites: EditSites
    context: Context
    controls: tuple[str, ...]
    """Names of all controls of the spec."""
    made: list[tuple[Context, dict[int, dict[EditSite, PlannedEdit]]]] = field(default_factory=list)
    """By context and number of the edit, what was made for other cells of the variant, which ``upto`` and ``onwards``
    share nearly all edits with."""

    @cached_property
    def edits(self) -> tuple[PlannedEdit, ...]:
        """The intervention's own edits."""
        return self.edits_in(self.context)

    def edits_in(self, context: Context) -> tuple[PlannedEdit, ...]:
        """The same edits with another context's vectors: another task's, or of other fit prompts."""
        label, located = vector_label(self.variant, context), self.variant.located_edits
        known = self._made_in(context)
        return tuple(
            planned
            for i, ((where, section), own) in enumerate(zip(located, self.sites.of_edits, strict=True))
            for planned in planned_edits(
                section, own, label + (f".{i}" if len(located) > 1 else ""), context, where, known.setdefault(i, {})
            )
        )

    def _made_in(self, context: Context) -> dict[int, dict[EditSite, PlannedEdit]]:
        found = next((made for other, made in self.made if other == context), None)
        if found is None:
            self.made.append((context, found := {}))
        return found

    @property
    def vectors(self) -> list[VectorSection]:
        """The vectors that its edits use."""
        return vectors_of(self.variant)

    @property
    def vector_task(self) -> str:
        """How result rows call the tasks whose vectors or states are used."""
        named = [
            donor_of(s, self.context) or (vector_task(s.vector, self.context) if s.vector else "")
            for s in self.variant.section.parts
        ]
        return "+".join(
            dict.fromkeys(self.context.task if name == SAME else name for name in named if name not in ("", OWN))
        )

    @property
    def is_of_same_task(self) -> bool:
        """Whether a vector or a state of the prompt's own task is used."""
        alone = [s.vector for s in self.variant.section.parts if s.vector and s.source is None]
        return any("same_task" in vector.sources for vector in alone) or any(
            edit.operand == STATE + SAME for edit in with_lent([planned.edit for planned in self.edits])
        )


def vectors_of(variant: Variant) -> list[VectorSection]:
    """The vectors that the edits of a variant use."""
    return [section.vector for section in variant.section.parts if section.vector]


@dataclass(frozen=True)
class ControlCell:
    """One cell that a control adds; of no control (``""``) the intervention's own."""

    control: str
    """What result rows call it."""
    vector_task: str
    edits: tuple[PlannedEdit, ...]
    scored_as: str = ""
    """A task against whose answers it is scored too (conversion), where that is another than the prompt's."""
    texts: str | None = None
    """Texts of no task in which the edits are made, in place of the task's prompts: a file, "" for those that come
    along."""


class Control:
    """What is run beside every intervention, at the same places. Its docstring is its entry in docs/spec.md."""

    phrase: ClassVar[str] = "see the documentation"
    """What it puts in, in few words, for reports and `patchboard ls`: "random vectors of the same norm"."""
    overlap: ClassVar[str] = "the effect may not be the concept's own"
    """What it means where its effect cannot be told from the intervention's."""
    line: ClassVar[LineStyle] = LineStyle("#6B4E12", "--", "P")
    answers: ClassVar[Answers] = "own"
    """Whose outputs the demonstrations of its fit prompts carry."""
    Options: ClassVar[type[Section]] = Section
    """Fields that stand under its name in the spec, as ``draws`` in ``{random: {draws: 2}}``."""

    @classmethod
    def check(cls, variants: Sequence[Variant], tasks: Sequence[str], where: str) -> None:
        """Raises SpecError where it cannot be meant with these interventions and tasks. where: of the control."""

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        """The cells beside one of the intervention's; none where the control has no meaning for it."""
        raise NotImplementedError


CONTROLS: Registry[type[Control]] = Registry("control")


def options_of(section: ControlSection, where: str) -> Section:
    """The control's own options. Raises SpecError for one that it does not have, or a value that cannot be meant."""
    options = CONTROLS.get(section.name, where).Options
    written = dict(section.model_extra or {})
    if section.draws != 1 or "draws" in options.model_fields:
        written["draws"] = section.draws
    try:
        return options.model_validate(written)
    except ValidationError as error:
        raise spec_error(error, options, (where,)) from None
