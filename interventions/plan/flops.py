"""Floating-point operations of what a plan computes: those of matrix products, two a multiplication.

A block multiplies a token with the numbers of its matrices, and each pair of tokens of which one attends to the other
costs one product of queries with keys and one of weights with values; a read-out is one product with the head:

    2 x tokens x (projections + MLP)  +  4 x pairs x heads x head_dim      a block
    2 x reads x width x vocab

which is the count of Kaplan et al. (arXiv 2001.08361, section 2.1), with grouped queries (fewer keys' and values'
columns), gated MLPs (three matrices, not two) and experts (those that a token goes through). A tied head is a product
as any other. Left out: embeddings, norms, rotations, softmax, activations, biases, routers of experts, short
convolutions and the scan of state-space models, edits and scores; of OPT 350M the projections around its blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from patchboard.plan.facts import ModelFacts


@dataclass(frozen=True)
class Work:
    """tokens, pairs: [layer] in each block, tokens that it computes and pairs of tokens whose attention it computes;
    reads: next-token distributions."""

    tokens: np.ndarray
    pairs: np.ndarray
    reads: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.pairs + other.pairs, self.reads + other.reads)

    def __sub__(self, other: Work) -> Work:
        return Work(self.tokens - other.tokens, self.pairs - other.pairs, self.reads - other.reads)

    def times(self, often: int) -> Work:
        return Work(self.tokens * often, self.pairs * often, self.reads * often)


def no_work(layers: int) -> Work:
    return Work(np.zeros(layers, np.int64), np.zeros(layers, np.int64))


def causal_work(layers: int, start: int, stop: int, first: int = 0) -> Work:
    """Of the tokens at positions start … stop of a sequence, in the blocks from ``first`` on: each attends to those
    before it and itself."""
    inside = np.arange(layers) >= first
    pairs = stop * (stop + 1) // 2 - start * (start + 1) // 2
    return Work(inside * (stop - start), inside * pairs)


@lru_cache(maxsize=8)  # asked for each pack and copy
def block_numbers(facts: ModelFacts) -> np.ndarray:
    """[layer] numbers of the matrices that a token goes through in each block."""
    inner = np.full(facts.layers, facts.inside, dtype=object)  # python's integers: they don't overflow
    if not facts.mlps:
        inner[:] = 0
    for layer, width in facts.other_mlps:
        inner[layer] = width
    return (facts.projections or 4 * facts.width**2) + facts.mlps * facts.width * inner


def flops_of(work: Work, facts: ModelFacts) -> int:
    blocks = 2 * work.tokens.astype(object) @ block_numbers(facts)
    attention = 4 * int(work.pairs.sum()) * attention_width(facts)
    return int(blocks) + attention + 2 * work.reads * facts.width * facts.vocab


def attention_width(facts: ModelFacts) -> int:
    """Numbers of all heads' queries together, those of a state-space model none."""
    return facts.heads * facts.head_dim if facts.projections else facts.width
