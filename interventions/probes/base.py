"""What a probe is: a classifier that is trained to tell a prompt's task from its state.

Probes are scikit-learn's, which loads in a second: each is made when it is first fitted, so that a spec can be
validated without.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from patchboard.registry import Registry

FOLDS = 5
"""Parts of a cross-validation: a fit on four fifths of the queries is tested on the fifth that it never saw."""

PERMUTATIONS = 2
"""Control tasks whose accuracy is averaged: each costs as much as the probe itself, and errs by about
sqrt(chance (1 - chance) / points), .013 of 700 points of 7 labels."""


class Probe(Protocol):
    """A classifier of states. Its docstring is its entry in docs/spec.md."""

    linear: ClassVar[bool]
    """Whether it parts labels by hyperplanes, so that linear guardedness is about it; such ones tell probabilities."""

    @staticmethod
    def classifier(k: int, seed: int) -> Any:
        """An unfitted scikit-learn classifier. It is given states [point, dim] scaled to unit variance, in the span of
        those that it is fitted on. k: neighbours, of what goes by neighbours; seed: of what is drawn."""
        ...


PROBES: Registry[type[Probe]] = Registry("probe")
