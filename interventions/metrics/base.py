"""What a metric is: a score of each measured next-token distribution, combined over an answer's tokens.

``score`` uses tensor methods only, so that it can run inside a trace on any host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from patchboard.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AnswersOf = Literal["own", "vector_task"]
Reference = Literal["clean", "source"]


class Metric(Protocol):
    """One number for a query and a cell.

    Two further attributes may be left out. ``reference: Reference = "clean"``: the run whose logits ``score`` is given
    last; of "source" that of the prompt whose states the edits put in. ``normalised: bool = False``: reported as a
    share of the way from the corrupted run's mean (0) to the clean run's (1).
    """

    unit: ClassVar[str]
    answers_of: ClassVar[AnswersOf]
    """Whose answer is scored: the prompt's own task's, or that of the task whose vector is in use."""

    @staticmethod
    def score(logits: Tensor, target: Tensor, foil: Tensor, clean: Tensor) -> Tensor:
        """logits, clean [read, vocab] float32; target, foil [read] token ids -> [read].

        clean: the reference run's logits, as a rule the clean one's, at the same prompt's first answer token.
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


class Graded(Metric, Protocol):
    """A metric by which a screen can estimate: ``score`` has a gradient with respect to ``logits``."""

    @staticmethod
    def slope(scores: Floats, starts: Ints) -> Floats:
        """[read] the derivative of ``combine``'s values with respect to each score, at these scores."""
        ...


METRICS: Registry[type[Metric]] = Registry("metric")


def known(name: str) -> type[Metric] | None:
    """The metric of that name; None for one that an experiment measures by itself, which is in no registry."""
    return METRICS[name] if name in METRICS else None


def against_source(metric: type[Metric] | None) -> bool:
    """Whether it is held against the run whose states are put in, not the clean one."""
    return getattr(metric, "reference", "clean") == "source"


def is_normalised(metric: type[Metric] | None) -> bool:
    """Whether it is reported as a share of what lies between the corrupted and the clean run."""
    return getattr(metric, "normalised", False)


def graded(names: Sequence[str]) -> str:
    """The first of these metrics that has a gradient, "" where none has. Of a share of two means a query has none."""
    known = ((name, METRICS.get(name, "metrics")) for name in names if name in METRICS)
    return next((name for name, metric in known if hasattr(metric, "slope") and not is_normalised(metric)), "")


def of_first_token(scores: Floats, starts: Ints) -> Floats:
    return scores[starts]


def slope_of_first_token(scores: Floats, starts: Ints) -> Floats:
    slope = np.zeros(len(scores))
    slope[starts] = 1.0
    return slope


def of_first_answer(a: Floats, b: Floats) -> Floats:
    return a
