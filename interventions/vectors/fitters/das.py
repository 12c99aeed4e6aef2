"""das: a rotation learned on counterfactual pairs."""

from __future__ import annotations

from typing import ClassVar, Literal

from patchboard.vectors.fitters.base import FITTERS, Learn, Learned


@FITTERS.register("das")
class Das(Learned):
    """the subspace of `rank` dimensions that is learned for swaps (distributed alignment search, Geiger et al. 2023):
    what the state of a counterfactual prompt holds of it, put in by [swap](#ops), is to bring that prompt's answer.
    The prompt is that of `other_task` with the same query, or a source of the rows. `boundless: true` learns how many
    dimensions it needs (Wu et al. 2023)"""

    makes: ClassVar[Literal["vector", "subspace"]] = "subspace"
    phrase: ClassVar[str] = "the {rank}subspace learned on pairs with {first}"
    taught_by: ClassVar[str] = "swap"

    @classmethod
    def learner(cls) -> Learn:
        from patchboard.vectors.learned import rotation

        return rotation
