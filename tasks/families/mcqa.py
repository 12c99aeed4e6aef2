"""Multiple choice over a fact that the prompt states (after Wiegreffe et al. 2024, arXiv 2407.15018: copied colours).

"The box is red. What colour is the box?\\nA. blue\\nB. red\\nAnswer:" goes on with the label of the right choice.
Our own objects and colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from patchboard.spec.section import Section
from patchboard.tasks.base import FAMILIES, Item
from patchboard.tasks.one_task import OneTask, any_of, combinations, filled

OBJECTS = (
    "box ball cup car door hat lamp chair book flag shirt kite boat bag ring bowl bus vase scarf glove bench tent shoe "
    "bottle blanket pencil candle button ribbon bicycle"
).split()
COLOURS = "red blue green yellow black white brown pink purple grey".split()


class McqaOptions(Section):
    labels: Literal["letters", "symbols", "numbers"] = Field(
        "letters",
        description="letters: A, B and on; numbers: 1, 2 and on; symbols: random letters, other ones in each question",
    )
    choices: Annotated[int, Field(ge=2, le=4)] = Field(2, description="of a question")


@FAMILIES.register("mcqa")
class Mcqa(OneTask):
    """Multiple choice over a stated fact: the answer is the label of the colour that an object was said to have."""

    name, Options = "mcqa", McqaOptions
    source_names = "other_position", "other_labels"

    @classmethod
    def spans(cls, options: McqaOptions) -> tuple[str, ...]:
        numbers = range(1, options.choices + 1)
        each = [f"{part}{n}" for n in numbers for part in ("label", "choice")]
        return ("fact", "colour", *each, "right_label", "right_choice")

    def _items(self, rng: np.random.Generator) -> list[Item]:
        choices = self.options.choices
        items = []
        for thing, colour, right in combinations((len(OBJECTS), len(COLOURS), choices), rng):
            others = [c for c in COLOURS if c != COLOURS[colour]]
            listed = [others[i] for i in rng.choice(len(others), choices - 1, replace=False)]
            listed.insert(right, COLOURS[colour])
            labels, other_labels = self._labels(rng)
            moved, place = list(listed), int((right + rng.integers(1, choices)) % choices)
            moved[right], moved[place] = moved[place], moved[right]
            base = _item(OBJECTS[thing], listed, labels, right)
            sources = {
                "other_position": _item(OBJECTS[thing], moved, labels, place),
                "other_labels": _item(OBJECTS[thing], listed, other_labels, right),
            }
            items.append(Item(base.input, base.answers, foils=base.foils, spans=base.spans, sources=sources))
        return items

    def _labels(self, rng: np.random.Generator) -> tuple[list[str], list[str]]:
        """A question's labels and as many others."""
        count, kind = self.options.choices, self.options.labels
        known = "12345678" if kind == "numbers" else ascii_uppercase
        order = rng.choice(len(known), 2 * count, replace=False) if kind == "symbols" else range(2 * count)
        labels = [known[i] for i in order]
        return labels[:count], labels[count:]

    def _chance(self, item: Item, rng: np.random.Generator) -> str:
        return any_of([item.answers[self.name], *item.foils[self.name]], rng)


def _item(thing: str, choices: Sequence[str], labels: Sequence[str], right: int) -> Item:
    """The question; right: index of the right choice."""
    lines = [f"[label{n}]. [choice{n}]" for n in range(1, len(choices) + 1)]
    template = "\n".join([f"The {thing} is [colour]. What colour is the {thing}?", *lines, "Answer:"])
    words = {"colour": choices[right]}
    words |= {f"label{n}": label for n, label in enumerate(labels, 1)}
    words |= {f"choice{n}": choice for n, choice in enumerate(choices, 1)}
    text, spans = filled(template, words)
    spans |= {
        "fact": (0, spans["colour"][1] + 1),
        "right_label": spans[f"label{right + 1}"],
        "right_choice": spans[f"choice{right + 1}"],
    }
    foils = tuple(label for n, label in enumerate(labels) if n != right)
    return Item(text, {Mcqa.name: labels[right]}, foils={Mcqa.name: foils}, spans=spans)
