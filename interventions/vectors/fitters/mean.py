"""mean: where a task's prompts are, on average."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from patchboard.vectors.base import Recipe
from patchboard.vectors.fitters.base import FITTERS, Fitter

if TYPE_CHECKING:
    from torch import Tensor

    from patchboard.vectors.statistics import PlaceStatistics


@FITTERS.register("mean")
class Mean(Fitter):
    """the mean state of the fit prompts: `same_task` (the prompt's own task), `other_task` (the next one),
    `null_task`, `all_tasks` (mean of the tasks' means, without Null), or a task's name"""

    phrase: ClassVar[str] = "the mean state of {first}"

    @staticmethod
    def build(recipe: Recipe, statistics: PlaceStatistics) -> Tensor:
        columns = slice(*(recipe.columns or (None,)))
        return statistics.means(recipe.plus, recipe.layer, recipe.only)[:, columns].mean(0)
