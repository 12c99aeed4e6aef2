"""The packs of one model's plan: in which way they run, one part file each, halved where memory runs out."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from interventions.engine.agree import TOLERANCE, largest_difference
from interventions.engine.local import LocalEngine
from interventions.engine.memory import is_out_of_memory
from interventions.errors import EngineError, ModelError
from interventions.measure.metrics import METRICS
from interventions.measure.outcomes import combine, scored_metrics
from interventions.measure.portions import Scores
from interventions.plan.model import Group, ModelPlan, Pack, Way
from interventions.plan.packs import packs_of
from interventions.store.folder import RunFolder

_SHARED: tuple[Way, ...] = ("wavefront", "packed")
"""Ways in which copies share the clean run, the one of least work first."""

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
    family = plan.facts.family
    if asked == "rows" or not plan.groups:
        return Choice("rows", "rows: asked for")
    if not plan.facts.packs:
        if asked != "auto":
            what = f"{asked} needs attention that takes a mask, {family} has none"
            raise ModelError("--engine", what, "use --engine auto or rows")
        return Choice("rows", f"rows: {family} has no attention that takes a mask")
    tolerance = TOLERANCE[str(engine.dtype)]
    score = METRICS.get("logprob", "metrics").score
    worst: dict[Way, float] = {}
    tried: list[Way] = [way for way in _SHARED if asked in ("auto", way)]
    for way in tried:
        worst[way] = largest_difference(engine, plan.groups[0], operands, score, way)
        if worst[way] <= tolerance:
            how = "asked for" if asked == way else f"each token is computed only where it can differ ({family})"
            fell = "" if len(worst) == 1 else _disagree(worst, tolerance)
            reason = f"{way}: {how}; equals rows within {worst[way]:.1e} nats on a sample of cells"
            return Choice(asked if len(worst) == 1 else way, reason, fell)
    if asked != "auto":
        raise EngineError("--engine", _disagree(worst, tolerance), "use --engine auto or rows")
    fell = f"{_disagree(worst, tolerance)}: all cells were run as rows"
    return Choice("rows", "rows: nothing else was exact enough", fell)


def _disagree(worst: Mapping[Way, float], tolerance: float) -> str:
    found = " and ".join(f"{way} differs from rows by {by:.1e} nats" for way, by in worst.items() if by > tolerance)
    return f"{found} on a sample of cells, more than {tolerance:.0e}"


@dataclass
class Passes:
    """Runs the packs of a plan, each once; what lies in the folder's parts is not run again.

    A pack that runs out of memory is halved, and so are all that follow, until they fit.
    """

    plan: ModelPlan
    engine: LocalEngine
    operands: Mapping[str, Any]
    folder: RunFolder
    prefix: str
    way: str
    halvings: int = 0

    def __post_init__(self) -> None:
        self.packs = {
            group.id: list(packs_of(group, self.plan.facts, self.way, self.engine.budget)) for group in self.plan.groups
        }

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

    def _parts(self, group: Group, pack: Pack) -> list[str]:
        """The files that hold the pack's scores, computed now where they are missing."""
        todo, names = halved(pack, self.halvings), []
        while todo:
            piece = todo.pop(0)
            name = f"parts/{self.prefix}{piece.id}.parquet"
            if self.folder.has(name) or self._run(group, piece, name):
                names.append(name)
                continue
            pieces = halved(piece, 1)
            if len(pieces) == 1:
                what = f"one prompt of {group.task} with one cell does not fit in the memory of {self.engine.device}"
                raise EngineError("--device", what, "use fewer shots, a smaller --dtype or a larger device")
            self.halvings += 1
            todo = pieces + [half for rest in todo for half in halved(rest, 1)]
        return names

    def _run(self, group: Group, pack: Pack, name: str) -> bool:
        """Compute one pack and keep it; False where memory ran out."""
        scorers = {m: METRICS.get(m, "metrics").score for m in scored_metrics(group.metrics)}
        try:
            found = self.engine.score_pack(group, pack, self.operands, scorers)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            self.folder.write_table(name, combine(found.prompt, found.copy, found.scores, found.moved))
            return True
        gc.collect()  # only now, when the error no longer holds the frames and their tensors
        self.engine.release()
        return False


def halved(pack: Pack, times: int) -> list[Pack]:
    """The same pairs in up to 2 ** times packs: fewer prompts each, or, of a single prompt, fewer copies."""
    if times == 0:
        return [pack]
    prompts, copies = pack.prompts, pack.copies
    if len(prompts) > 1:
        middle = prompts.start + len(prompts) // 2
        halves = [
            replace(pack, prompts=part, together=min(pack.together, len(part)))
            for part in (range(prompts.start, middle), range(middle, prompts.stop))
        ]
    elif len(copies) > 1:
        halves = [replace(pack, copies=part) for part in (copies[: len(copies) // 2], copies[len(copies) // 2 :])]
    else:
        return [pack]
    return [small for half in halves for small in halved(half, times - 1)]
