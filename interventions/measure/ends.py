"""Normalised metrics: are the clean and the corrupted run, their 1 and their 0, told apart at all?"""

from __future__ import annotations

from patchboard.measure.scored_group import ScoredGroup
from patchboard.measure.statistics import Bootstrap, interval
from patchboard.metrics.base import is_normalised, known


class Ends:
    """Notes on tasks where they are not: the same interval by which ``CellMatrices`` gives no number there."""

    def __init__(self, bootstrap: Bootstrap) -> None:
        self.bootstrap = bootstrap
        self.notes: list[str] = []

    def update(self, scored: ScoredGroup) -> None:
        group = scored.group
        ends = {use.far_end: use.cell.source for use in group.uses if use.far_end >= 0}
        for metric in group.metrics:
            if not is_normalised(known(metric)):
                continue
            for far_end, source in ends.items():
                values = scored.values[metric]
                apart = (values[:, :1] - values[:, [far_end]]) * (-1 if group.corrupted else 1)
                (low,), (high,) = interval(apart, self.bootstrap, [group.task] * len(apart))
                if low <= 0 <= high:
                    other = "base" if group.corrupted else source
                    self.notes.append(
                        f"{metric} of {group.task} has no number: the clean run less the corrupted one (source {other})"
                        f" is {low:.2g} to {high:.2g} on {len(apart)} queries; use more of them, or another source"
                    )
