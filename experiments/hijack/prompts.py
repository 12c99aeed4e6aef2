"""Prompts in which a token a was followed by b, though training taught that c follows, and which end with a."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from patchboard.experiments.hijack.settings import HijackSettings
from patchboard.tasks.bigram import BigramTable, Tokens, drawn_from

Kind = Literal["count", "distance", "near", "spread"]


@dataclass(frozen=True)
class Prompts:
    """Prompts of one kind and setting; prompt i has the same a and b in every setting.

    kind: what varies. count: pairs at random places of a prompt of the training length; distance: one pair, so far
    before the end; near, spread: prompts of other lengths, pairs at random places near the end or anywhere.
    count: pairs "a b" in each prompt. distance: tokens from the pair's a to the last one, 0 where places are random.
    tokens: [prompt, seq]; token (a), copied (b), usual (c): [prompt].
    """

    kind: Kind
    count: int
    distance: int
    tokens: Tokens
    token: Tokens
    copied: Tokens
    usual: Tokens

    @property
    def length(self) -> int:
        return self.tokens.shape[1]


def prompt_sets(settings: HijackSettings, table: BigramTable) -> Iterator[Prompts]:
    """All prompts of an experiment. a is a common token, b any token but a and a's usual successor c, both uniform."""
    section, trained_length = settings.prompts, settings.training.length
    rng = np.random.default_rng([section.seed, 0xA6])
    token = rng.integers(table.common, size=section.each)
    copied = _other_than(token, table.usual[token], table.vocab, rng)

    def prompts(kind: Kind, length: int, count: int, distance: int, room: int) -> Prompts:
        seeds = section.seed, list(("count", "distance", "near", "spread")).index(kind), length, count, distance
        own = np.random.default_rng(seeds)
        if distance:
            places = np.full((section.each, 1), length - 1 - distance)
        else:
            places = length - room + pair_places(section.each, count, room - 1, own)
        tokens = filled(table, token, copied, places, length, own)
        return Prompts(kind, count, distance, tokens, token, copied, table.usual[token])

    for count in section.counts:
        yield prompts("count", trained_length, count, 0, trained_length)
    for distance in section.distances:
        yield prompts("distance", trained_length, 1, distance, trained_length)
    for length in section.lengths:
        yield prompts("near", length, section.shown, 0, settings.near)
        yield prompts("spread", length, section.shown, 0, length)


def _other_than(first: Tokens, second: Tokens, vocab: int, rng: np.random.Generator) -> Tokens:
    """A uniform token for each pair of different tokens that is neither of them."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    drawn = rng.integers(vocab - 2, size=len(first))
    drawn += drawn >= low
    return drawn + (drawn >= high)


def pair_places(prompts: int, count: int, room: int, rng: np.random.Generator) -> Tokens:
    """[prompt, count]: where pairs begin in ``room`` tokens, all ways to lay them without overlap equally likely."""
    slots = rng.random((prompts, room - count)).argsort(axis=1)[:, :count]
    return np.sort(slots, axis=1) + np.arange(count)


def filled(
    table: BigramTable, token: Tokens, copied: Tokens, places: Tokens, length: int, rng: np.random.Generator
) -> Tokens:
    """[prompt, length]: pairs (token, copied) at ``places`` [prompt, pair], ``token`` last, a bigram chain between.

    The chain never draws ``token``, so each of its occurrences is one that was planted.
    """
    row = np.arange(len(token))
    planted = np.full((len(token), length), -1)
    np.put_along_axis(planted, places, token[:, None], axis=1)
    np.put_along_axis(planted, places + 1, copied[:, None], axis=1)
    planted[:, -1] = token
    tokens = np.empty((len(token), length), dtype=np.int64)
    chances = np.full((len(token), table.vocab), 1.0)  # the first token: any
    for place in range(length):
        chances[row, token] = 0
        drawn = drawn_from(chances.cumsum(axis=1), rng)
        tokens[:, place] = np.where(planted[:, place] < 0, drawn, planted[:, place])
        chances = table.probabilities[tokens[:, place]]
    return tokens
