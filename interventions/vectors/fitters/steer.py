"""steer: a vector learned to bring a task's answers."""

from __future__ import annotations

from typing import ClassVar

from patchboard.vectors.fitters.base import FITTERS, Learn, Learned


@FITTERS.register("steer")
class Steer(Learned):
    """the vector that, added to the state, is learned to bring the answers to the fit prompts of that task (a source as
    under `mean`), as long as `norm` mean states at most (steering vectors by gradient, Subramani et al. 2022)"""

    phrase: ClassVar[str] = "the vector learned to bring the answers of {first}"
    taught_by: ClassVar[str] = "add"

    @classmethod
    def learner(cls) -> Learn:
        from patchboard.vectors.learned import bounded

        return bounded
