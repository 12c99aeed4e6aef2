"""Written words from a treebank's tokens: what stands between spaces, or the tokens themselves.

A treebank splits "don't" into two tokens, and here it is one word. Chinese, Japanese or Thai write no spaces
between words: there a sentence would be one word, and the tokens are what counts. Which of the two a source is, is
measured over all of its sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from patchboard.tasks.sentences import Sentence, Word, tag_of

Tokens = list[tuple[str, list[Any]]]
"""Written tokens in order, each with the tags of the words that it is made of."""

Words = Literal["auto", "written", "tokens"]

_APART = 0.5
"""Share of neighbouring tokens apart by a space from which on a source writes spaces between words."""


@dataclass(frozen=True)
class Read:
    """The sentences of a source.

    words: what counts as a word. apart: [0, 1] share of neighbouring tokens of letters with a space between them, by
    which ``auto`` decides; None where there are no such neighbours. tags: how many were read, those of punctuation
    too, and untagged how many of these are empty.
    """

    sentences: tuple[Sentence, ...]
    words: Literal["written", "tokens"]
    apart: float | None
    tags: int
    untagged: int

    def __iter__(self) -> Iterator[Sentence]:
        return iter(self.sentences)


def read_as(words: Words, read: Iterable[tuple[Tokens, str]]) -> Read:
    """read: each sentence's tokens, with the tags that the source has, and running text."""
    sentences, tags, untagged = [], 0, 0
    for tokens, text in read:
        named = [tag for _, own in tokens for tag in own]
        tags, untagged = tags + len(named), untagged + sum(map(no_tag, named))
        sentences.append(([(form, list(map(tag_of, own))) for form, own in tokens], text))
    near = [spaced for tokens, text in sentences for spaced in _neighbours(tokens, text)]
    apart = sum(near) / len(near) if near else None
    if words == "auto":
        words = "tokens" if apart is not None and apart < _APART else "written"
    made = as_written if words == "written" else as_tokens
    return Read(tuple(made(tokens, text) for tokens, text in sentences), words, apart, tags, untagged)


def no_tag(name: str | None) -> bool:
    """Whether a source's column is empty."""
    return name in (None, "", "_")


def as_written(tokens: Tokens, text: str) -> Sentence:
    """Tokens put together as the running ``text`` shows them, or apart by spaces where it is another text."""
    text, starts, ends = _placed(tokens, text)
    forms = [form for form, _ in tokens]
    cuts = [0, *(i for i in range(1, len(starts)) if starts[i] > ends[i - 1]), len(starts)]
    groups = [list(range(a, b)) for a, b in pairwise(cuts)]
    words = []
    for group in groups:
        lettered = [i for i in group if _lettered(forms[i])]
        if lettered:
            tags = [tag for i in lettered for tag in tokens[i][1]]
            words.append(Word(text[starts[lettered[0]] : ends[lettered[-1]]], tuple(tags)))
    return Sentence(text, tuple(words))


def as_tokens(tokens: Tokens, text: str) -> Sentence:
    """Each token with a letter or digit as a word of its own, in the running ``text``."""
    text, *_ = _placed(tokens, text)
    return Sentence(text, tuple(Word(form, tuple(tags)) for form, tags in tokens if _lettered(form)))


def _neighbours(tokens: Tokens, text: str) -> list[bool]:
    """Of each two tokens of letters that follow one another: whether a space is between them; [] in another text."""
    placed, starts, ends = _placed(tokens, text)
    if placed != text:
        return []
    sides = pairwise(zip(tokens, starts, ends, strict=True))
    return [start > end for (a, _, end), (b, start, _) in sides if _lettered(a[0]) and _lettered(b[0])]


def _lettered(form: str) -> bool:
    return any(c.isalnum() for c in form)


def _placed(tokens: Tokens, text: str) -> tuple[str, list[int], list[int]]:
    """The running text, with where each token begins and ends in it; the tokens apart by spaces where it is another."""
    forms = [form for form, _ in tokens]
    starts = _starts(text, forms)
    if starts is None:
        text = " ".join(forms)
        starts = _starts(text, forms)
        assert starts is not None
    return text, starts, [start + len(form) for start, form in zip(starts, forms, strict=True)]


def _starts(text: str, forms: Sequence[str]) -> list[int] | None:
    """Where each form begins, if ``text`` is these forms in order with at most white space between."""
    at, starts = 0, []
    for form in forms:
        while text[at : at + 1].isspace():
            at += 1
        if not text.startswith(form, at):
            return None
        starts.append(at)
        at += len(form)
    return None if text[at:].strip() else starts
