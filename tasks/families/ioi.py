"""Indirect object identification (Wang et al. 2022, arXiv 2211.00593): who is given what the other one gives.

"When Mary and John went to the store, John gave a drink to" goes on with the indirect object (IO), Mary, and not with
the subject, John, which stands there twice (S1, S2). Sentences and lists of words are our own.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from patchboard.spec.refusal import InvalidValue
from patchboard.spec.section import Differing, Section
from patchboard.tasks.base import FAMILIES, Item
from patchboard.tasks.one_task import OneTask, any_of, combinations, filled

NAMES = (
    "Adam Alice Amy Andrew Anna Ben Brian Carl Charles Chris Daniel David Emily Emma Eric Frank George Grace Henry "
    "Jack James Jane John Kate Laura Lisa Mark Mary Michael Paul Peter Rachel Robert Rose Ruth Sam Sarah Simon Susan "
    "Tom"
).split()
"""An even number of them: for `random_names` they are paired."""
PLACES = "store garden station school library market office beach museum park restaurant hospital".split()
OBJECTS = "book ring letter drink ticket key basket coin ball lamp map pen".split()
TEMPLATES = (
    "When [A] and [B] went to the [PLACE], [B] gave a [OBJECT] to",
    "After [A] and [B] left the [PLACE], [B] handed a [OBJECT] to",
    "Then [A] and [B] met at the [PLACE], and [B] passed a [OBJECT] to",
    "While [A] and [B] were waiting in the [PLACE], [B] showed a [OBJECT] to",
    "Last week [A] and [B] visited the [PLACE], and [B] brought a [OBJECT] to",
    "Today [A] and [B] worked at the [PLACE]. In the evening [B] offered a [OBJECT] to",
    "At the [PLACE], [A] and [B] had a long talk. Afterwards [B] sent a [OBJECT] to",
    "Since [A] and [B] found a [OBJECT] on the way to the [PLACE], [B] decided to give it to",
)

_SLOTS = {"ABBA": ("IO", "S1", "S2"), "BABA": ("S1", "IO", "S2")}
"""Order -> whose name stands first, second and third."""


class IoiOptions(Section):
    templates: Annotated[list[str], Field(min_length=1), Differing] | None = Field(
        None,
        description="in place of the shipped ones: [A] stands for the indirect object, then [B] twice for the subject;"
        " [PLACE] and [OBJECT] may stand there",
    )
    orders: Annotated[list[Literal["ABBA", "BABA"]], Field(min_length=1), Differing] = Field(
        ["ABBA", "BABA"], description="ABBA: the indirect object is named first; BABA: the subject is"
    )

    @field_validator("templates")
    @classmethod
    def _slots(cls, templates: list[str] | None) -> list[str] | None:
        for i, template in enumerate(templates or ()):
            slots = re.findall(r"\[(\w+)\]", template)
            other = next((slot for slot in slots if slot not in ("A", "B", "PLACE", "OBJECT")), None)
            if other is not None:
                remedy = "use [A], [B], [PLACE] and [OBJECT]"
                raise InvalidValue(f"holds [{other}], which is no part of a template", remedy, (i,))
            names = [slot for slot in slots if slot in ("A", "B")]
            if names != ["A", "B", "B"] or len(slots) - 3 != len({*slots} - {"A", "B"}):
                what = (
                    f"holds {', '.join(f'[{slot}]' for slot in slots) or 'no names'}, expected [A], [B], [B] in order"
                )
                raise InvalidValue(what, 'write "When [A] and [B] met, [B] gave a [OBJECT] to"', (i,))
        return templates


@FAMILIES.register("ioi")
class Ioi(OneTask):
    """Indirect object identification: two names, the one that stands there once is right."""

    name, Options = "ioi", IoiOptions
    source_names = "abc", "flip", "s1_io_flip", "s2_io_flip", "random_names"

    @classmethod
    def spans(cls, options: IoiOptions) -> tuple[str, ...]:
        own = options.templates or TEMPLATES
        fields = [slot for slot in ("PLACE", "OBJECT") if any(f"[{slot}]" in template for template in own)]
        return ("IO", "S1", "S2", *(slot.lower() for slot in fields))

    def _items(self, rng: np.random.Generator) -> list[Item]:
        own, orders = self.options.templates or TEMPLATES, self.options.orders
        paired = rng.permutation(NAMES).tolist()
        partner = {paired[i]: paired[i ^ 1] for i in range(len(paired))}
        sizes = (len(own), len(orders), len(NAMES), len(NAMES) - 2, len(PLACES), len(OBJECTS))
        items: dict[str, Item] = {}
        for t, o, first, second, place, thing in combinations(sizes, rng):
            io = NAMES[first]
            subject = [name for name in NAMES if name not in (io, partner[io])][second]
            item = _item(_ordered(own[t], orders[o]), io, subject, partner, PLACES[place], OBJECTS[thing], rng)
            items.setdefault(item.input, item)  # a template without a place gives each sentence several times
        return list(items.values())

    def _chance(self, item: Item, rng: np.random.Generator) -> str:
        return any_of(NAMES, rng)


def _ordered(template: str, order: str) -> str:
    """The template with whose name stands where."""
    slots = iter(_SLOTS[order])
    return re.sub(r"\[[AB]\]", lambda _: f"[{next(slots)}]", template)


def _item(
    template: str, io: str, subject: str, partner: dict[str, str], place: str, thing: str, rng: np.random.Generator
) -> Item:
    """A sentence with its sources. The partners stand for both names in `random_names`, and of these four `abc` has
    none: so few sentences are linked by their sources that both halves can be filled."""

    def sentence(first: str, one: str, two: str, right: str = "", wrong: str = "") -> Item:
        text, spans = filled(template, {"IO": first, "S1": one, "S2": two, "PLACE": place, "OBJECT": thing})
        spans = {name if name in _SLOTS["ABBA"] else name.lower(): span for name, span in spans.items()}
        return Item(text, {"ioi": right} if right else {}, foils={"ioi": (wrong,)} if wrong else {}, spans=spans)

    other_io, other_subject = partner[io], partner[subject]
    left = [name for name in NAMES if name not in (io, subject, other_io, other_subject)]
    a, b, c = (left[i] for i in rng.choice(len(left), 3, replace=False))
    base = sentence(io, subject, subject, io, subject)
    sources = {
        "abc": sentence(a, b, c),
        "flip": sentence(subject, io, io, subject, io),
        "s1_io_flip": sentence(subject, io, subject, io, subject),
        "s2_io_flip": sentence(io, subject, io, subject, io),
        "random_names": sentence(other_io, other_subject, other_subject, other_io, other_subject),
    }
    return Item(base.input, base.answers, foils=base.foils, spans=base.spans, sources=sources)
