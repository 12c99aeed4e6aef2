"""difference: from one task's prompts to another's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.spec.vectors import Takes
from patchboard.vectors.base import Recipe
from patchboard.vectors.fitters.base import FITTERS, Fitter

if TYPE_CHECKING:
    from torch import Tensor

    from patchboard.vectors.statistics import PlaceStatistics


@FITTERS.register("difference")
class Difference(Fitter):
    """`[a, b]`: mean of a minus mean of b"""

    takes: ClassVar[Takes] = "pair"
    phrase: ClassVar[str] = "the mean state of {first} minus that of {second}"

    @staticmethod
    def build(recipe: Recipe, statistics: PlaceStatistics) -> Tensor:
        columns = slice(*(recipe.columns or (None,)))
        first = statistics.means(recipe.plus, recipe.layer, recipe.only)[:, columns].mean(0)
        return first - statistics.means(recipe.minus, recipe.layer, recipe.only)[:, columns].mean(0)
