"""Tagged sentences: what `pos` asks about, whichever source they come from, and those that ship with it.

A *word* is what stands between spaces, less its punctuation. So "I'm" and "user-friendly" are one word
each, of several tags; a sentence whose first pronoun is inside "I'm" has no word to answer with, and is
left out rather than answered with the next pronoun.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from patchboard.tasks.base import normal_form

OTHER = "other"
"""Tag of all words that belong to no task."""

MAX_WORDS = 40
"""Longer sentences are left out: ten of them already fill a small model's context."""

TOO_LONG = f"more than {MAX_WORDS} words"
LACKING = "lacks one of the six parts of speech"
CONTRACTED = "the first word of a tag is part of a contraction or compound"
REPEATED = "same text as an earlier one"

TAG_NAMES: dict[str, tuple[str, ...]] = {
    "noun": ("NOUN", "NN", "NNS"),
    "adjective": ("ADJ", "JJ", "JJR", "JJS"),
    "verb": ("VERB", "VB", "VBD", "VBG", "VBN", "VBP", "VBZ"),
    "adverb": ("ADV", "RB", "RBR", "RBS", "WRB"),
    "preposition": ("ADP", "IN"),
    "pronoun": ("PRON", "PRP", "PRP$", "WP", "WP$"),
}
"""Task -> universal tag, then Penn tags. Proper nouns are no nouns and auxiliaries (universal) no verbs.

Universal ADP also holds verb particles ("up" in "give up"), Penn IN also subordinating conjunctions, and
Penn's verbs also "be", "have", "do" as auxiliaries: the tags alone cannot tell them apart.
"""

TAGS = tuple(TAG_NAMES)
_TAG_OF = {name: tag for tag, names in TAG_NAMES.items() for name in names}


def tag_of(name: str | None) -> str:
    """The task that a universal or Penn tag belongs to, or ``other``."""
    return _TAG_OF.get((name or "").upper(), OTHER)


@dataclass(frozen=True)
class Word:
    """A written word and its tag, or tags where it is made of several words ("I'm")."""

    form: str
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Sentence:
    """Running text and its words in order; punctuation is none."""

    text: str
    words: tuple[Word, ...]

    def first(self, tag: str) -> Word | None:
        """The first word that has, or holds a word of, that tag."""
        return next((word for word in self.words if tag in word.tags), None)

    def fault(self) -> str:
        """Why the sentence cannot be asked about under all six tasks; empty where it can."""
        if len(self.words) > MAX_WORDS:
            return TOO_LONG
        firsts = [self.first(tag) for tag in TAGS]
        if None in firsts:
            return LACKING
        return CONTRACTED if any(map(self.contracts, TAGS)) else ""

    def contracts(self, tag: str) -> bool:
        """Whether the tag's first word is one of several tags, and so no word to answer with."""
        word = self.first(tag)
        return word is not None and len(word.tags) > 1


@dataclass(frozen=True)
class TagCounts:
    """What a source holds of one tag.

    sentences: read ones that have it. first_words: different first words of it, as written, in the sentences kept, so
    the different answers of its task. contracted: sentences left out as CONTRACTED where it is this tag's first word
    (one sentence can count under several tags).
    """

    sentences: int
    first_words: int
    contracted: int


@dataclass(frozen=True)
class Corpus:
    """The sentences of a source that hold all six tags, and what became of the others."""

    sentences: tuple[Sentence, ...]
    excluded: Mapping[str, int]
    tags: Mapping[str, TagCounts]

    @classmethod
    def of(cls, sentences: Iterable[Sentence]) -> Corpus:
        kept: dict[str, Sentence] = {}
        excluded: Counter[str] = Counter()
        having: Counter[str] = Counter()
        contracted: Counter[str] = Counter()
        for sentence in sentences:
            having.update(tag for tag in TAGS if sentence.first(tag))
            fault = sentence.fault() or (REPEATED if normal_form(sentence.text) in kept else "")
            if fault:
                excluded[fault] += 1
            else:
                kept[normal_form(sentence.text)] = sentence
            if fault == CONTRACTED:
                contracted.update(filter(sentence.contracts, TAGS))
        firsts = {tag: {sentence.first(tag) for sentence in kept.values()} for tag in TAGS}
        tags = {tag: TagCounts(having[tag], len(firsts[tag]), contracted[tag]) for tag in TAGS}
        return cls(tuple(kept.values()), dict(sorted(excluded.items())), tags)

    @property
    def read(self) -> int:
        return len(self.sentences) + sum(self.excluded.values())

    def describe(self) -> dict[str, Any]:
        """Counts of sentences, what is known of each tag, and of single-tag words a tag in the sentences kept."""
        words = Counter(word.tags[0] for s in self.sentences for word in s.words if len(word.tags) == 1)
        return {
            "sentences_read": self.read,
            "sentences_kept": len(self.sentences),
            "excluded": dict(self.excluded),
            "by_tag": {tag: asdict(counts) for tag, counts in self.tags.items()},
            "words": {tag: words[tag] for tag in (*TAGS, OTHER)},
        }


def shipped_lines() -> Iterator[list[tuple[str, str]]]:
    """The shipped sentences as (token, universal tag) pairs, punctuation included."""
    text = (resources.files("patchboard.tasks") / "data" / "sentences.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if not line.startswith("#"):
            yield [(form, upos) for form, _, upos in (token.rpartition("/") for token in line.split())]


def shipped() -> Iterator[Sentence]:
    """The sentences that ship with the package, written for it."""
    for tokens in shipped_lines():
        text = "".join(form if upos == "PUNCT" else f" {form}" for form, upos in tokens).strip()
        words = (Word(form, (tag_of(upos),)) for form, upos in tokens if upos != "PUNCT")
        yield Sentence(text, tuple(words))
