"""Mixture of sparse linear regression: which task a sequence (x_1, y_1, ..., x_n, y_n) follows must be inferred.

A task says which coordinates of x bear on y, and by which formula. x ~ N(0, I), weights ~ N(0, I) on the task's
coordinates, both fresh for each sequence; y has normal noise. A sequence is 2 n tokens, x_i and then y_i, each a
vector of ``inputs`` + 1 numbers: x and 0, or 0 and y. Source: arXiv 2412.12276, section 3 (inputs 16, four disjoint
bases of 4, noise variance 0.01, 20 pairs); families of regression after Garg et al. 2022.

The formulas use operators only, so that training can draw its batches by them on any device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from patchboard.tasks.prompt import Prompt

Kind = Literal["linear", "sparse_linear", "leaky_relu", "quadratic"]
KINDS: tuple[Kind, ...] = ("linear", "sparse_linear", "leaky_relu", "quadratic")
_LEAK = 0.1
"""Slope of the leaky ReLU below zero; the paper names none."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Regression:
    """One task of the mixture. nonzero: of sparse_linear, how many of its coordinates each sequence draws."""

    name: str
    coordinates: tuple[int, ...]
    kind: Kind = "linear"
    nonzero: int = 0


@dataclass(frozen=True)
class Mixture:
    """The tasks, drawn equally often, over x of ``inputs`` numbers. noise: standard deviation in y."""

    inputs: int
    pairs: int
    noise: float
    tasks: tuple[Regression, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(task.name for task in self.tasks)

    def bases(self) -> Floats:
        """[task, inputs] 1 where the coordinate bears on y."""
        bases = np.zeros((len(self.tasks), self.inputs), np.float32)
        for row, task in zip(bases, self.tasks, strict=True):
            row[list(task.coordinates)] = 1
        return bases

    def drawn_nonzero(self) -> NDArray[np.int64]:
        """[task] coordinates that a sequence draws among the task's own; all of them unless sparse."""
        return np.array([t.nonzero if t.kind == "sparse_linear" else len(t.coordinates) for t in self.tasks])

    def responses(self, x: Any, weights: Any, task: Any) -> Any:
        """y without noise [sequence, pair], of x [sequence, pair, inputs], weights [sequence, inputs] and the
        task's number [sequence]; arrays of numpy or torch alike."""
        y = 0.0
        for kind in dict.fromkeys(each.kind for each in self.tasks):
            own = sum((task == i) for i, each in enumerate(self.tasks) if each.kind == kind)
            y = y + own[:, None] * response(kind, x, weights)  # type: ignore[index]  # sum starts at the int 0
        return y

    def draw(self, task: int, count: int, rng: np.random.Generator) -> Sequences:
        """``count`` sequences of one task."""
        base = self.bases()[task]
        order = np.where(base > 0, rng.random((count, self.inputs)), 2.0).argsort(-1).argsort(-1)
        weights = rng.standard_normal((count, self.inputs)) * base * (order < self.drawn_nonzero()[task])
        x = rng.standard_normal((count, self.pairs, self.inputs))
        noise = rng.standard_normal((count, self.pairs)) * self.noise
        y = self.responses(x, weights, np.full(count, task)) + noise
        return Sequences(self.tasks[task].name, x.astype(np.float32), y.astype(np.float32))


@dataclass(frozen=True)
class Sequences:
    """Sequences of one task: x [sequence, pair, inputs], y [sequence, pair]."""

    task: str
    x: Floats
    y: Floats


def response(kind: Kind, x: Any, weights: Any) -> Any:
    """y [sequence, pair] by one formula: W x; LeakyReLU(W x); W x^2 / sqrt 3, so that its variance is W x's."""
    if kind == "quadratic":
        return (x * x * weights[:, None, :]).sum(-1) / math.sqrt(3)
    z = (x * weights[:, None, :]).sum(-1)
    return z * (z > 0) + _LEAK * z * (z <= 0) if kind == "leaky_relu" else z


def token_inputs(x: Floats, y: Floats) -> Floats:
    """[sequence, 2 pairs, inputs + 1]: x_i and 0 at even tokens, 0 and y_i at odd ones."""
    count, pairs, inputs = x.shape
    tokens = np.zeros((count, 2 * pairs, inputs + 1), np.float32)
    tokens[:, 0::2, :inputs] = x
    tokens[:, 1::2, inputs] = y
    return tokens


class Table:
    """Continuous inputs as prompts: a token's id is its row in the table of all inputs.

    So everything that plans, packs and edits prompts of token ids does so with these.
    """

    def __init__(self, inputs: int):
        self._rows: list[Floats] = [np.zeros((1, inputs + 1), np.float32)]  # id 0, which padding has
        self._size = 1

    @property
    def rows(self) -> Floats:
        """[token, inputs + 1]; the last number is y."""
        return np.concatenate(self._rows)

    def prompts(self, drawn: Sequences, shots: int) -> tuple[Prompt, ...]:
        """A prompt for each sequence: ``shots`` pairs, then the next x; its answer is that x's y."""
        tokens = token_inputs(drawn.x[:, : shots + 1], drawn.y[:, : shots + 1])
        count, length, width = tokens.shape
        first = self._size + length * np.arange(count)
        self._rows.append(tokens.reshape(-1, width))
        self._size += count * length
        positions, answers = named_positions(shots), tuple((2 * i + 1,) for i in range(shots))
        return tuple(
            Prompt(drawn.task, "", "", tuple(range(at, at + length - 1)), (at + length - 1,), positions, answers)
            for at in first.tolist()
        )


def named_positions(shots: int) -> Mapping[str, Sequence[int]]:
    """Where the named positions stand in a prompt of so many pairs: an x is both input and last before the answer."""
    last = 2 * shots
    xs, ys = tuple(range(0, last, 2)), tuple(range(1, last, 2))
    return {
        "last": (last,), "answer": (), "query": (last,), "demo_inputs": xs, "demo_outputs": ys,
        "before_answers": xs, "all": range(last + 1),
    }  # fmt: skip
