"""Greater-than (Hanna et al. 2023, arXiv 2305.00586): "The war lasted from the year 1732 to the year 17", a later year.

Every two digits above those of the first year are right, the others are foils. The source `from_01` is the same
sentence from the year 01, after which nearly all years are later. Our own nouns.
"""

from __future__ import annotations

import numpy as np

from patchboard.tasks.base import FAMILIES, Item
from patchboard.tasks.one_task import OneTask, combinations, filled

NOUNS = (
    "war siege famine drought reign trial strike feud rebellion journey voyage alliance truce campaign crisis boom "
    "plague exile project expedition conflict dispute occupation revolt survey experiment partnership tradition "
    "exhibition construction negotiation investigation quarrel tour festival search friendship migration blockade "
    "restoration"
).split()
CENTURIES = range(11, 18)
YEARS = range(2, 99)
"""Last two digits of the first year: from_01 begins earlier, and a later year is left."""

_TEXTS = tuple(f"{year:02d}" for year in range(100))
_SENTENCE = "The [noun] lasted from the year [XX1][YY] to the year [XX2]"


@FAMILIES.register("greater_than")
class GreaterThan(OneTask):
    """A year that must be later than another one: right is any two digits above those of the first year."""

    name = "greater_than"
    span_names = "noun", "XX1", "YY", "XX2"
    source_names = ("from_01",)

    def _items(self, rng: np.random.Generator) -> list[Item]:
        items = []
        for noun, century, year in combinations((len(NOUNS), len(CENTURIES), len(YEARS)), rng):
            start = YEARS[year]
            first, foil = int(rng.integers(start + 1, 100)), int(rng.integers(start + 1))
            base = _item(NOUNS[noun], CENTURIES[century], start, first, foil)
            source = _item(NOUNS[noun], CENTURIES[century], 1, first, int(rng.integers(2)))
            items.append(Item(base.input, base.answers, base.more, base.foils, base.spans, {"from_01": source}))
        return items

    def _chance(self, item: Item, rng: np.random.Generator) -> str:
        return f"{rng.integers(100):02d}"


def _item(noun: str, century: int, start: int, first: int, foil: int) -> Item:
    """The sentence from year ``start``; of the right and of the wrong years one is the first, the others in order."""
    words = {"noun": noun, "XX1": f"{century}", "YY": f"{start:02d}", "XX2": f"{century}"}
    text, spans = filled(_SENTENCE, words)
    later = _TEXTS[start + 1 : first] + _TEXTS[first + 1 :]
    foils = (_TEXTS[foil], *_TEXTS[:foil], *_TEXTS[foil + 1 : start + 1])
    task = GreaterThan.name
    return Item(text, {task: _TEXTS[first]}, {task: later}, {task: foils}, spans)
