"""shuffled: the vector of demonstrations whose inputs and answers do not belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from patchboard.errors import SpecError
from patchboard.plan.context import is_paired
from patchboard.plan.controls.base import (
    CONTROLS,
    Control,
    ControlCell,
    LineStyle,
    PlacedIntervention,
    vectors_of,
)
from patchboard.spec.axes import Variant
from patchboard.spec.section import Section


@CONTROLS.register("shuffled")
class Shuffled(Control):
    """the edit with the vector fitted on the same prompts with shuffled answers: each demonstration carries the answer
    of another one of its prompt. Same task, queries, shots and, under `only: correct`, the same prompts: those
    answered rightly with their own answers. So it tells how much of an effect needs inputs and answers to belong
    together, and how much comes of the inputs, the set of answers and the format. Not for edits without a fitted
    vector, nor for vectors of Null alone, whose answers are random already."""

    phrase = "vectors of demonstrations with shuffled answers"
    overlap = "it may not need the pairing of inputs and answers"
    line = LineStyle("#E69F00", "--", "v")
    answers = "shuffled"

    @classmethod
    def check(cls, variants: Sequence[Variant], tasks: Sequence[str], where: str) -> None:
        if variants and not any(is_paired(vector) for variant in variants for vector in vectors_of(variant)):
            what = "shuffled needs an intervention with a vector fitted on demonstrations of a task, there is none"
            raise SpecError(where, what, "leave it out")
        for variant in variants:
            for at, section in variant.located_edits:
                if section.vector and is_paired(section.vector) and section.vector.shots < 2:
                    what = f"control shuffled needs at least 2 demonstrations, shots is {section.vector.shots}"
                    raise SpecError(f"{at}.vector.shots", what, "use more shots, or leave shuffled out of controls")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        if any(map(is_paired, placed.vectors)):
            edits = placed.edits_in(replace(placed.context, answers="shuffled"))
            yield ControlCell("shuffled", f"{placed.vector_task}~shuffled", edits, scored_as=placed.vector_task)
