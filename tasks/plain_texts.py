"""Texts that belong to no task: what an edit does to them is its side effect.

Each is a prompt of no demonstrations whose answer is the text's own last word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from patchboard.errors import TaskError
from patchboard.spec.prompts import Bos, TemplateSection
from patchboard.tasks import grammar
from patchboard.tasks.base import Item
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter

_AS_WRITTEN = TemplateSection(input="{input}", output=" {output}", separator="")

SHIPPED: list[str] = [
    *"""
The children were tired after the long walk home
She opened the window because the room was too hot
Most birds build their nests in the spring
He put the kettle on and made a cup of tea
The train to the coast leaves early in the morning
Nobody in the village could remember such a cold winter
The museum is closed on the first day of the week
They painted the kitchen white and the door blue
Water freezes when the temperature falls below zero
My brother plays the guitar and my sister plays the piano
The old bridge was built with stone from the river
After dinner we washed the dishes and went to bed
The farmer keeps his sheep behind the house
A good map would have saved us a lot of time
The doctor told him to drink more water and get some rest
We missed the bus and had to wait for another hour
The book fell off the table and landed on the floor
Every summer they rent a small house near the sea
The teacher wrote the answer on the board
It rained all night and the streets were full of water
The cat slept in the sun until it was time to eat
He forgot his keys and could not open the door
The bakery on the corner sells fresh bread every day
She wrote him a letter but never got a reply
The moon goes around the earth about once a month
Their flight was late because of the heavy snow
The garden looks better now that the roses are in bloom
He spoke so quietly that nobody could hear a word
The shop was crowded because everything was half price
A strong wind blew the leaves across the road
The soup needs a little more salt and pepper
We could see the lights of the city from the top of the hill
The meeting went on for hours and ended without a decision
She learned to swim when she was five years old
The clock on the wall has stopped again
They planted an apple tree in front of the house
The new road made the trip to the capital much shorter
He works at night and sleeps during the day
The water in the lake was clear enough to see the bottom
Her favourite song was playing on the radio
The boat was too small to cross the ocean
In the end the two neighbours became good friends
The price of coffee has gone up again this year
He cut the bread with a sharp knife
The fire kept them warm through the night
Her grandmother told her stories about the war
The sun sets early at this time of the year
The actors came back on stage and took a bow
""".strip().splitlines()
]
"""Written for this purpose; each ends in a word that its beginning makes likely or possible."""

OF_THE_EMBEDDED = 48
"""How many sentences of its own small lexicon the embedded model has in their place."""


def plain_texts(file: Path | None, embedded: bool, where: str) -> list[str]:
    """The lines of a user's file, of at least two words each; without one the shipped texts.

    embedded: whether they are for the embedded model, which knows a lexicon's words and no others. Raises TaskError at
    ``where``.
    """
    if file is None:
        return _of_the_lexicon() if embedded else SHIPPED
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise TaskError(where, f"'{file}' is no text in UTF-8", "give a file with a text on each line") from None
    texts = [line for line in lines if line]
    if len(texts) < 2:
        what = f"'{file}' has {len(texts)} text{'s' * (len(texts) != 1)}, expected at least 2"
        raise TaskError(where, what, "write a text on each line")
    for number, line in enumerate(lines, 1):
        if line and len(line.split()) < 2:
            what = f"line {number} of '{file}' is one word, and the last word is what is asked for"
            raise TaskError(where, what, "write at least two words, or leave it out")
    return texts


def text_prompts(texts: list[str], tokenizer: Any, bos: Bos, task: str, where: str) -> tuple[Prompt, ...]:
    """A prompt for each text, all but its last word, under the name of a task whose vectors are put in.

    Raises TaskError at ``where`` for a text that the tokenizer does not know.
    """
    parts = [text.rsplit(maxsplit=1) for text in texts]
    rows = [[Item(before, {task: word})] for before, word in parts]
    prompts = tuple(Prompter(tokenizer, _AS_WRITTEN, bos).prompts(task, rows))
    for number, prompt in enumerate(prompts):
        if prompt.excluded:
            what = f"text {number}, {' '.join(texts[number].split()[:6])!r} …: {prompt.excluded}"
            raise TaskError(where, what, "write texts: FILE, of words that the model's tokenizer knows")
    return prompts


def _of_the_lexicon() -> list[str]:
    rng = np.random.default_rng(0x7E87)
    texts: dict[str, None] = {}
    while len(texts) < OF_THE_EMBEDDED:
        texts[" ".join(word for word, _ in grammar.sentence(rng))] = None
    return list(texts)
