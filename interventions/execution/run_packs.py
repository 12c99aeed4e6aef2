"""Packs computed on the model in this process, halved where memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence

from patchboard.engine.local import LocalEngine, Scorer
from patchboard.engine.memory import is_out_of_memory
from patchboard.errors import EngineError
from patchboard.execution.pack_parts import PackParts
from patchboard.measure.outcomes import scored_metrics
from patchboard.measure.scored_group import ScoreTables
from patchboard.metrics import METRICS
from patchboard.plan.model import Group, Pack
from patchboard.plan.packs import halved
from patchboard.vectors.base import Operand


class PackRunner:
    """Computes packs, each once; what lies in the folder's parts is not computed again.

    A pack that runs out of memory is halved, and so are all that follow, until they fit.
    operands: as ``LocalEngine.place`` gives them. step: called with the number of packs done.
    """

    def __init__(
        self, parts: PackParts, engine: LocalEngine, operands: Mapping[str, Operand],
        step: Callable[[int], None] = lambda count: None,
    ):  # fmt: skip
        self.parts, self.engine, self.operands, self.step = parts, engine, operands, step
        self.halvings = 0

    def compute(self, group: Group) -> ScoreTables:
        """The group's scores, computed where they are missing."""
        for pack in self.parts.packs[group.id]:
            if self.parts.files_holding(pack) is None:
                self._compute_in_pieces(group, pack)
            self.step(1)
        return self.parts.scores(group)

    def _compute_in_pieces(self, group: Group, pack: Pack) -> None:
        """The pack in pieces as small as memory has asked for until now, and in smaller ones where it asks again."""
        pieces = halved(pack, self.halvings)
        while pieces:
            piece = pieces.pop(0)
            if self.parts.files_holding(piece) is not None or self._fits(group, piece):
                continue
            halves = halved(piece, 1)
            if len(halves) == 1:
                what = f"one prompt of {group.task} with one cell does not fit in the memory of {self.engine.device}"
                raise EngineError("--device", what, "use fewer shots, a smaller --dtype or a larger device")
            self.halvings += 1
            pieces = halves + [half for rest in pieces for half in halved(rest, 1)]

    def _fits(self, group: Group, pack: Pack) -> bool:
        """Compute one pack and write it; False where memory ran out."""
        try:
            scores = self.engine.score_pack(group, pack, self.operands, scorers_of(group.metrics))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            self.parts.write(scores, group, pack)
            return True
        gc.collect()  # only now, when the error no longer holds the frames and their tensors
        self.engine.release()
        return False


def scorers_of(metrics: Sequence[str]) -> dict[str, Scorer]:
    return {name: METRICS.get(name, "metrics").score for name in scored_metrics(metrics)}
