"""Generated sentences over a small lexicon, each holding all six parts of speech.

Sixteen words a tag, each word of one tag only, so that "the first noun" is decided by the order of
the sentence and not by a word's ambiguity. The embedded model is trained on these.
"""

from __future__ import annotations

import numpy as np

LEXICON: dict[str, tuple[str, ...]] = {
    "noun": (
        *"baker teacher farmer child river table garden letter".split(),
        *"horse window city mountain boat song box doctor".split(),
    ),
    "adjective": (
        *"old young red heavy bright quiet strange happy".split(),
        *"small tall cold gentle brave dark clever round".split(),
    ),
    "verb": (
        *"carried watched found painted lost followed called built".split(),
        *"sold opened touched heard moved helped left washed".split(),
    ),
    "adverb": (
        *"quickly slowly often never always quietly suddenly gladly".split(),
        *"rarely soon again today carefully proudly badly early".split(),
    ),
    "preposition": (
        *"under over near behind beside above across with".split(),
        *"without from into toward around past through against".split(),
    ),
    "pronoun": (
        *"he she it they we you him her".split(),
        *"them us someone everyone nobody anyone somebody anybody".split(),
    ),
}

_LETTER = {"N": "noun", "J": "adjective", "V": "verb", "R": "adverb", "P": "preposition", "O": "pronoun"}

# Tags come in many orders, and some twice, so that neither a word's place nor its mere presence
# tells the answer. "the" belongs to no task.
PATTERNS = tuple(
    pattern.split()
    for pattern in (
        "O R V the J N P N",
        "the J N R V O P N",
        "R N V O P the J N",
        "P the N O V J N R",
        "N P O R V the J N",
        "J N V R P O",
        "O V J N R P O",
        "P O the N V J N R",
        "R O V P the J N",
        "the N V R P J N O",
        "J J N P O V R",
        "O P the J N R V N",
        "V O R P the J N",
        "N V V O P J N R",
    )
)


def sentence(rng: np.random.Generator) -> list[tuple[str, str]]:
    """One sentence as (word, tag) pairs; the tag of "the" is ``other``. No word occurs twice."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    order = {tag: iter(rng.permutation(len(words))) for tag, words in LEXICON.items()}
    out = []
    for slot in pattern:
        tag = _LETTER.get(slot)
        out.append((LEXICON[tag][next(order[tag])], tag) if tag else (slot, "other"))
    return out


assert all({_LETTER.get(slot) for slot in pattern} >= set(LEXICON) for pattern in PATTERNS), "a pattern lacks a tag"
