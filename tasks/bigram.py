"""Sequences of a bigram language with triggers: global knowledge (which token usually follows) against in-context
knowledge (which token follows in this sequence).

The table is made from a seed, not estimated from text: how strongly a token calls for its usual successor is then a
controlled variable, spread over the vocabulary, where text would give a few common letters and no choice.
Source: Bietti et al. 2023, "Birth of a Transformer" (arXiv 2306.00802), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BigramTable:
    """P(next token | token).

    probabilities: [token, next], rows add up to 1, all above 0.
    usual: [token], the successor that a token's row puts its strength on.
    strength: [token], P(usual | token), one of those asked for.
    common: the frequent tokens, among which triggers are drawn: 0 to common - 1.
    """

    probabilities: Floats
    usual: Tokens
    strength: Floats
    common: int

    @property
    def vocab(self) -> int:
        return len(self.usual)


def zipf_table(vocab: int, common: int, strengths: Sequence[float], exponent: float, seed: int) -> BigramTable:
    """A table in which each strength belongs to (nearly) as many common tokens as any other.

    Tokens are numbered by popularity: what a row does not put on its usual successor falls on the other tokens as
    1 / (number + 1) ** exponent. Each token is the usual successor of exactly one other; those of common tokens are
    common, which keeps them frequent.
    """
    rng = np.random.default_rng([seed, 0xB16A])
    usual, strength = np.empty(vocab, dtype=np.int64), np.empty(vocab)
    for part in (np.arange(common), np.arange(common, vocab)):
        order = rng.permutation(part)
        usual[order] = np.roll(order, 1)  # one cycle through all of them: a permutation without fixed points
        strength[part] = np.asarray(strengths, dtype=float)[rng.permutation(np.arange(len(part)) % len(strengths))]
    tail = np.tile(1.0 / np.arange(1, vocab + 1) ** exponent, (vocab, 1))
    tail[np.arange(vocab), usual] = 0
    probabilities = (1 - strength)[:, None] * tail / tail.sum(axis=1, keepdims=True)
    probabilities[np.arange(vocab), usual] = strength
    return BigramTable(probabilities, usual, strength, common)


@dataclass(frozen=True)
class Sequences:
    """Sequences with what made them.

    tokens: [sequence, seq].
    occurrence: [sequence, seq], n where a trigger stands for the n-th time, 0 where no trigger stands. Its next token
    is that sequence's output for it, so from n = 2 on it can be copied from the context.
    triggers, outputs: [sequence, trigger].
    """

    tokens: Tokens
    occurrence: Tokens
    triggers: Tokens
    outputs: Tokens


def draw_sequences(table: BigramTable, triggers: int, count: int, length: int, rng: np.random.Generator) -> Sequences:
    """``count`` sequences of ``length`` tokens.

    Each has its own ``triggers`` different trigger tokens, drawn uniformly from the common ones, and for each an
    output, drawn uniformly from the other tokens. The first token is uniform; a trigger is followed by its output, any
    other token by a draw from the table. So a common token is sometimes a trigger: its bigram is learned, and
    sometimes overruled.
    """
    vocab, row = table.vocab, np.arange(count)
    chosen = rng.random((count, table.common)).argsort(axis=1)[:, :triggers]
    outputs = rng.integers(vocab - 1, size=(count, triggers))
    outputs += outputs >= chosen  # skips the trigger itself
    output_of = np.full((count, vocab), -1)
    np.put_along_axis(output_of, chosen, outputs, axis=1)
    cumulative = table.probabilities.cumsum(axis=1)
    tokens, occurrence = np.empty((2, count, length), dtype=np.int64)
    seen = np.zeros((count, vocab), dtype=np.int64)
    token = rng.integers(vocab, size=count)
    for place in range(length):
        is_trigger = output_of[row, token] >= 0
        seen[row, token] += is_trigger
        tokens[:, place], occurrence[:, place] = token, np.where(is_trigger, seen[row, token], 0)
        token = np.where(is_trigger, output_of[row, token], drawn_from(cumulative[token], rng))
    return Sequences(tokens, occurrence, chosen, outputs)


def drawn_from(cumulative: Floats, rng: np.random.Generator) -> Tokens:
    """A token for each row of cumulative probabilities [row, vocab]."""
    # against the last sum, not 1: rounding must not give a token past the last
    return (cumulative < rng.random((len(cumulative), 1)) * cumulative[:, -1:]).sum(axis=1)


def ideal_margin(table: BigramTable, triggers: int, token: Tokens, copied: Tokens, count: Tokens) -> Floats:
    """log P(copied | prompt) - log P(usual | prompt) in nats, of an observer who knows how sequences are made.

    The prompt holds ``token`` followed by ``copied`` ``count`` times, never by anything else, and ends with ``token``.
    With V tokens, C common ones and K triggers, the odds that ``token`` is a trigger in this prompt are

        odds = K / (C - K) / (V - 1) / P(copied | token) ** count,  w = odds / (1 + odds)
        P(copied | prompt) = w + (1 - w) P(copied | token),  P(usual | prompt) = (1 - w) P(usual | token)

    for count > 0 (an output is drawn once a sequence, a bigram each time). Without a demonstration odds = K / (C - K),
    and a trigger's output is any: w / (V - 1) stands in place of w, and of the 0 that is left out at the usual one.
    What the other tokens tell about who is a trigger is left out. token, copied, count: [prompt], as the result.
    ``copied`` is neither ``token`` nor its usual successor.
    """
    bigram, usual = np.log(table.probabilities[token, copied]), np.log(table.strength[token])
    uniform = -np.log(table.vocab - 1)
    blind = count == 0
    log_odds = np.log(triggers / (table.common - triggers)) + np.where(blind, 0.0, uniform) - count * bigram
    log_w, log_rest = -np.logaddexp(0, -log_odds), -np.logaddexp(0, log_odds)
    to_copied = np.logaddexp(log_w + np.where(blind, uniform, 0.0), log_rest + bigram)
    to_usual = np.where(blind, np.logaddexp(log_w + uniform, log_rest + usual), log_rest + usual)
    return to_copied - to_usual
