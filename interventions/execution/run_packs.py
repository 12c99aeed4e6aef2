"""Packs computed on the model in this process, halved where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from patchboard.engine.halving import Halving
from patchboard.engine.local import LocalEngine, Scorer
from patchboard.execution.claims import everything
from patchboard.execution.pack_parts import PackParts
from patchboard.measure.outcomes import scored_metrics
from patchboard.metrics import METRICS
from patchboard.plan.model import Group, Pack
from patchboard.plan.packs import halved
from patchboard.vectors.base import Operand

Piece = tuple[Group, Pack]


class PackRunner:
    """Computes packs, each once; what lies in the folder's parts is not computed again.

    A pack that runs out of memory is halved, and so are all that follow, also of later groups.
    operands: as ``LocalEngine.place`` gives them. step: called with the number of packs done. take: as of ``Claims``.
    """

    def __init__(
        self, parts: PackParts, engine: LocalEngine, operands: Mapping[str, Operand],
        step: Callable[[int], None] = lambda count: None, take: Callable[[str], bool] = everything,
    ):  # fmt: skip
        self.parts, self.engine, self.operands, self.step, self.take = parts, engine, operands, step, take
        self.halving = Halving(engine, self._compute, _halved, _smallest, is_done=self._is_there)

    def run(self, group: Group) -> None:
        """Compute what is missing of the group's packs, as far as it is this process's to do."""
        for pack in self.parts.packs[group.id]:
            if self.take(self.parts.file_of(pack)):
                if not self._is_there((group, pack)):
                    self.halving.do((group, pack))
                self.step(1)

    def _is_there(self, piece: Piece) -> bool:
        return self.parts.files_holding(piece[1]) is not None

    def _compute(self, piece: Piece) -> None:
        group, pack = piece
        scores = self.engine.score_pack(group, pack, self.operands, scorers_of(group.metrics))
        self.parts.write(scores, group, pack)


def _halved(piece: Piece, times: int) -> list[Piece]:
    return [(piece[0], pack) for pack in halved(piece[1], times)]


def _smallest(piece: Piece) -> str:
    return f"one prompt of {piece[0].task} with one cell does not fit"


def scorers_of(metrics: Sequence[str]) -> dict[str, Scorer]:
    return {name: METRICS.get(name, "metrics").score for name in scored_metrics(metrics)}
