"""What a metric is: a score of each measured next-token distribution, combined over an answer's tokens.

``score`` uses tensor methods only, so that it can run inside a trace on any host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from patchboard.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AnswersOf = Literal["own", "vector_task"]


class Metric(Protocol):
    """One number for a query and a cell."""

    unit: ClassVar[str]
    answers_of: ClassVar[AnswersOf]
    """Whose answer is scored: the prompt's own task's, or that of the task whose vector is in use."""

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        """logits, clean [read, vocab] float32; target, foil [read] token ids -> [read].

        clean: the clean run's logits at the same prompt's first answer token.
        """
        ...

    @staticmethod
    def combine(scores: Floats, starts: Ints) -> Floats:
        """[read] of the tokens of many answers, each beginning at one of ``starts`` -> [answer] the queries' values."""
        ...

    @staticmethod
    def either(a: Floats, b: Floats) -> Floats:
        """[query] of a query's first right answers (a) and of the next one (b) -> [query] of all of them."""
        ...


METRICS: Registry[type[Metric]] = Registry("metric")


def of_first_token(scores: Floats, starts: Ints) -> Floats:
    return scores[starts]


def of_first_answer(a: Floats, b: Floats) -> Floats:
    return a
