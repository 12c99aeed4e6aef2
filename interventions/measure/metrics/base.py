"""What a metric is: a score of each measured next-token distribution, combined over an answer's tokens.

``score`` uses tensor methods only, so that it can run inside a trace on any host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from interventions.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

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
    def combine(scores: Sequence[float]) -> float:
        """[answer token] -> the query's value."""
        ...


METRICS: Registry[type[Metric]] = Registry("metric")


def of_first_token(scores: Sequence[float]) -> float:
    return scores[0]
