"""The packs of one model's plan: in which way they run, one part file each, halved where memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from patchboard.engine.exactness import TOLERANCE, difference, sample
from patchboard.engine.local import LocalEngine, PackScores, Scorer
from patchboard.engine.memory import is_out_of_memory
from patchboard.errors import EngineError, ModelError
from patchboard.measure.outcomes import combine, scored_metrics
from patchboard.measure.portions import Scores
from patchboard.metrics import METRICS
from patchboard.plan.model import Group, ModelPlan, Pack
from patchboard.plan.packs import Budget, halved, packs_of
from patchboard.store.folder import RunFolder

Ran = Callable[[int, int], None]
"""Told (packs done, of), for progress."""


@dataclass(frozen=True)
class Choice:
    """How a model's cells are computed, why, and a note where that is not what was hoped for."""

    engine: str
    reason: str
    fallback: str = ""


def choose(plan: ModelPlan, engine: LocalEngine, operands: Mapping[str, Any], asked: str) -> Choice:
    """The engine that runs: as asked, or the fastest one that equals whole rows on a sample of the first cells.

    Raises EngineError where what was asked for is not exact on this model, ModelError where it is not possible.
    """
    known = chosen_unseen(plan, asked)
    if known:
        return known
    score, group = METRICS.get("logprob", "metrics").score, plan.groups[0]
    shared, rows = (
        engine.score_pack(group, sample(group, engine.budget, way), operands, {"logprob": score})
        for way in ("wavefront", "rows")
    )
    return decided(plan.facts.family, asked, difference(shared, rows), str(engine.dtype))


def chosen_unseen(plan: ModelPlan, asked: str) -> Choice | None:
    """The choice where no sample is needed for it. Raises ModelError."""
    family = plan.facts.family
    if asked == "rows" or not plan.groups:
        return Choice("rows", "rows: asked for")
    if not plan.facts.packs:
        if asked != "auto":
            what = f"{asked} needs attention that takes a mask, {family} has none"
            raise ModelError("--engine", what, "use --engine auto or rows")
        return Choice("rows", f"rows: this {family} has no attention that takes a mask made for copies")
    return None


def decided(family: str, asked: str, apart: float, dtype: str) -> Choice:
    """apart: largest difference between wavefront and rows (nats) on the sample. Raises EngineError."""
    tolerance = TOLERANCE[dtype]
    if apart <= tolerance:
        how = "asked for" if asked == "wavefront" else f"each token is computed only where it can differ ({family})"
        # `auto` stays `auto`: rows where they are less work
        return Choice(asked, f"wavefront: {how}; equals rows within {apart:.1e} nats on a sample of cells")
    what = f"wavefront differs from rows by {apart:.1e} nats on a sample of cells, more than {tolerance:.0e}"
    if asked != "auto":
        raise EngineError("--engine", what, "use --engine auto or rows")
    return Choice("rows", "rows: the wavefront was not exact enough", f"{what}: all cells were run as rows")


@dataclass
class Passes:
    """The packs of a plan, each computed once; what lies in the folder's parts is not computed again.

    A pack that runs out of memory is halved, and so are all that follow, until they fit.
    """

    plan: ModelPlan
    folder: RunFolder
    prefix: str
    way: str
    budget: Budget
    halvings: int = 0
    engine: LocalEngine | None = None
    operands: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.packs = {
            group.id: list(packs_of(group, self.plan.facts, self.way, self.budget)) for group in self.plan.groups
        }

    def compute_on(self, engine: LocalEngine, operands: Mapping[str, Any]) -> None:
        """Compute missing packs there; without it, all parts must be in the folder."""
        self.engine, self.operands = engine, operands

    def explained(self, reason: str) -> str:
        """The choice's reason, and where single copies are computed in another way all the same."""
        packs = [pack for packs in self.packs.values() for pack in packs]
        rows = sum(len(pack.prompts) * len(pack.copies) for pack in packs if pack.way == "rows")
        pairs = sum(len(pack.prompts) * len(pack.copies) for pack in packs)
        if not rows or rows == pairs:
            return reason
        return f"{reason}; {rows} of {pairs} counterfactuals as rows, where that is less work (edits at early tokens)"

    def results(self, ran: Ran) -> Iterator[tuple[Group, Scores]]:
        """Each group with its tables ``query, copy, moved, <metric …>``, one row for each pair computed, read one
        at a time."""
        total, done = sum(map(len, self.packs.values())), 0
        for group in self.plan.groups:
            names: list[str] = []
            for pack in self.packs[group.id]:
                names += self._parts(group, pack)
                done += 1
                ran(done, total)
            yield group, lambda names=names: map(self.folder.read_table, names)

    def missing(self) -> list[tuple[Group, Pack]]:
        """What is not in the folder's parts yet, halved as often as memory has asked for."""
        return [
            (group, piece)
            for group in self.plan.groups
            for pack in self.packs[group.id]
            if self._held(pack) is None
            for piece in halved(pack, self.halvings)
            if self._held(piece) is None
        ]

    def keep(self, found: PackScores, piece: Pack) -> None:
        table = combine(found.prompt, found.copy, found.scores, found.moved)
        self.folder.write_table(self.part(piece), table)

    def part(self, piece: Pack) -> str:
        return f"parts/{self.prefix}{piece.id}.parquet"

    def _held(self, pack: Pack) -> list[str] | None:
        """The parts that hold the pack, as a whole or in halves; None where some of it is missing."""
        if self.folder.has(self.part(pack)):
            return [self.part(pack)]
        names: list[str] = []
        pieces = halved(pack, 1)
        for piece in pieces if len(pieces) > 1 else ():
            own = self._held(piece)
            if own is None:
                return None
            names += own
        return names or None

    def _parts(self, group: Group, pack: Pack) -> list[str]:
        """The files that hold the pack's scores, computed now where they are missing."""
        held = self._held(pack)
        if held is not None:
            return held
        todo, names = halved(pack, self.halvings), []
        while todo:
            piece = todo.pop(0)
            held = self._held(piece)
            if held is not None or self._run(group, piece):
                names += held or [self.part(piece)]
                continue
            pieces = halved(piece, 1)
            if len(pieces) == 1:
                assert self.engine is not None
                where = f"the memory of {self.engine.device}"
                raise too_large(group, where, "--device", "a smaller --dtype or a larger device")
            self.halvings += 1
            todo = pieces + [half for rest in todo for half in halved(rest, 1)]
        return names

    def _run(self, group: Group, pack: Pack) -> bool:
        """Compute one pack and keep it; False where memory ran out."""
        assert self.engine is not None, f"part {self.part(pack)} is missing"
        try:
            found = self.engine.score_pack(group, pack, self.operands, scorers_of(group.metrics))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            self.keep(found, pack)
            return True
        gc.collect()  # only now, when the error no longer holds the frames and their tensors
        self.engine.release()
        return False


def scorers_of(metrics: Sequence[str]) -> dict[str, Scorer]:
    return {name: METRICS.get(name, "metrics").score for name in scored_metrics(metrics)}


def too_large(group: Group, where: str, flag: str, instead: str) -> EngineError:
    what = f"one prompt of {group.task} with one cell does not fit in {where}"
    return EngineError(flag, what, f"use fewer shots, {instead}")
