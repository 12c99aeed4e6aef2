"""Generated sentences over a small lexicon, each holding all six parts of speech.

Eight words a tag, each word of one tag only, so that "the first noun" is decided by the order of
the sentence and not by a word's ambiguity. The embedded model is trained on these.
"""

from __future__ import annotations

import numpy as np

LEXICON: dict[str, tuple[str, ...]] = {
    "noun": tuple("baker teacher child river garden letter mountain boat".split()),
    "adjective": tuple("old young heavy quiet strange small cold brave".split()),
    "verb": tuple("carried watched found painted followed opened heard helped".split()),
    "adverb": tuple("quickly slowly often never quietly suddenly gladly again".split()),
    "preposition": tuple("under near behind above across with from through".split()),
    "pronoun": tuple("he she they we you him someone everyone".split()),
}

_LETTER = {"N": "noun", "J": "adjective", "V": "verb", "R": "adverb", "P": "preposition", "O": "pronoun"}

# Tags come in many orders, and some twice, so that neither a word's place nor its mere presence
# tells the answer. "the" belongs to no task.
PATTERNS = tuple(
    pattern.split()
    for pattern in (
        "O R V the J N P N",
        "the J N R V P O",
        "R N V O P the J",
        "P the N O V J R",
        "N P O R V the J",
        "J N V R P O",
        "O V J N R P",
        "P O the N V J R",
        "R O V P the J N",
        "the N V R P J O",
        "J J N P O V R",
        "O P J N R V R",
        "V O R P the J N",
        "N V V O P J R",
    )
)
assert all({_LETTER.get(slot) for slot in pattern} >= set(LEXICON) for pattern in PATTERNS), "a pattern lacks a tag"


def sentence(rng: np.random.Generator) -> list[tuple[str, str]]:
    """One sentence as (word, tag) pairs; the tag of "the" is ``other``. No word occurs twice."""
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    order = {tag: iter(rng.permutation(len(words))) for tag, words in LEXICON.items()}
    out = []
    for slot in pattern:
        tag = _LETTER.get(slot)
        out.append((LEXICON[tag][next(order[tag])], tag) if tag else (slot, "other"))
    return out
