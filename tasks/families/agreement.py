"""Agreement of a verb with its subject, a noun of either number between them ("The keys near the cabinet" … are).

After Linzen et al. 2016 (arXiv 1611.01368) and Finlayson et al. 2021 (arXiv 2106.06087). Our own words.
"""

from __future__ import annotations

import numpy as np

from patchboard.tasks.base import FAMILIES, Item
from patchboard.tasks.one_task import OneTask, any_of, combinations, filled

SUBJECTS = (
    "key book cup plate chair lamp picture letter bottle basket coin ticket shirt hat ring toy stone flower apple ball "
    "pen bag drum candle"
).split()
DISTRACTORS = "cabinet table door window wall tree bench car house road garden desk shelf boat fence lamp".split()
PREPOSITIONS = ("near", "behind", "beside", "above", "in front of", "next to")
IRREGULAR = {"shelf": "shelves", "bench": "benches"}
VERBS = (("is", "was", "has"), ("are", "were", "have"))
"""Of the singular and of the plural; the first ones are told apart by `logit_difference`."""

_SENTENCE = "The [subject] [by] the [distractor]"


@FAMILIES.register("agreement")
class Agreement(OneTask):
    """The verb's number is that of the subject, whatever that of a noun between them."""

    name = "agreement"
    span_names = "subject", "distractor"
    source_names = "number", "distractor"

    def _items(self, rng: np.random.Generator) -> list[Item]:
        sizes = (len(SUBJECTS), 2, len(PREPOSITIONS), len(DISTRACTORS), 2)
        items = []
        for subject, number, by, distractor, other in combinations(sizes, rng):
            nouns = SUBJECTS[subject], PREPOSITIONS[by], DISTRACTORS[distractor]
            if nouns[0] == nouns[2]:
                continue
            base = _item(*nouns, number, other)
            sources = {"number": _item(*nouns, 1 - number, other), "distractor": _item(*nouns, number, 1 - other)}
            items.append(Item(base.input, base.answers, base.more, base.foils, base.spans, sources))
        return items

    def _chance(self, item: Item, rng: np.random.Generator) -> str:
        return any_of([verbs[0] for verbs in VERBS], rng)


def _item(subject: str, by: str, distractor: str, number: int, other: int) -> Item:
    """number, other: of the subject and of the noun between, 0 singular and 1 plural."""
    words = {"subject": _form(subject, number), "by": by, "distractor": _form(distractor, other)}
    text, spans = filled(_SENTENCE, words)
    del spans["by"]
    task = Agreement.name
    verb, *more = VERBS[number]
    return Item(text, {task: verb}, {task: tuple(more)}, {task: VERBS[1 - number]}, spans)


def _form(noun: str, number: int) -> str:
    return IRREGULAR.get(noun, noun + "s") if number else noun
