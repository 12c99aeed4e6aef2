"""How vectors are learned: steps of Adam on the pairs that are seen, looks at those held out, the best look kept.

All vectors of a training share its passes. Each has its own optimiser and ends by itself, and its copies are then left
out of the passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR

from patchboard.engine.learning import Slopes, slopes
from patchboard.engine.local import LocalEngine, Scorer
from patchboard.engine.memory import fits
from patchboard.errors import EngineError
from patchboard.plan.learning import Training, part_of
from patchboard.plan.model import Group, Pack
from patchboard.plan.packs import Budget
from patchboard.vectors.learned import Boundless, Learner, operand_of

T = TypeVar("T")
_BETAS = (0.9, 0.95)
"""Adam's. Losses fall from some ten nats to a tenth of one within a hundred steps: the usual .999 would divide the last
gradients by the first ones, and boundaries, which are pulled back last, would stay where the first steps threw them."""
Cut = Callable[[Group, Budget], list[Pack]]
"""The packs of a group that a pass of that budget can hold."""


class Look(NamedTuple):
    """What a vector did after some steps. Losses in nats; accuracy: the share of held-out pairs that it converts."""

    step: int
    training_loss: float  # mean over the steps since the look before; NaN before the first step
    held_out_loss: float
    held_out_accuracy: float
    rank: int  # 0 of a vector
    chosen: bool = False


@dataclass
class Pupil:
    """One vector while it is learned."""

    learner: Learner
    optimiser: torch.optim.Optimizer
    schedule: LinearLR
    looks: list[Look] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of the steps since the last look."""
    least: float = float("inf")
    best: int = -1
    """Place in ``looks`` of the one that is kept."""
    kept: tuple[Tensor, ...] = ()

    def take(self, look: Look, cost: float, tensors: tuple[Tensor, ...]) -> None:
        """A look, what it counts as, and the tensors that were looked at."""
        self.looks.append(look)
        self.losses.clear()
        if cost < self.least:
            self.least, self.best, self.kept = cost, len(self.looks) - 1, tensors

    def is_done(self, patience: int) -> bool:
        """Whether it has gained nothing in that many looks. One that finds its own rank does so as its mask grows
        sharp, which takes all of the steps."""
        return not isinstance(self.learner, Boundless) and len(self.looks) - 1 - self.best >= patience

    def all_looks(self) -> list[Look]:
        """All of them, the kept one chosen."""
        return [look._replace(chosen=number == self.best) for number, look in enumerate(self.looks)]


def pupil_of(learner: Learner, rate: float, steps: int) -> Pupil:
    """rate: as of ``Learner.groups``; it falls to 0 over the steps."""
    optimiser = torch.optim.Adam(learner.groups(rate), betas=_BETAS)
    return Pupil(learner, optimiser, LinearLR(optimiser, 1.0, 1.0 / steps, steps))


class Teacher:
    """One training. packs: as of ``Cut``. budget: of a pass forwards and backwards; halved where memory runs out.
    scorers: ``logprob`` and ``accuracy``."""

    def __init__(
        self, engine: LocalEngine, training: Training, learners: Sequence[Learner], packs: Cut, budget: Budget,
        scorers: Mapping[str, Scorer],
    ):  # fmt: skip
        self.engine, self.training, self.packs, self.budget, self.scorers = engine, training, packs, budget, scorers
        told = training.settings
        made = [pupil_of(learner.to(engine.device), told.learning_rate, told.steps) for learner in learners]
        self.pupils = dict(enumerate(made, 1))
        """Copy of the training's group -> what is learned by it."""

    def run(self, step: Callable[[int], None]) -> list[Pupil]:
        """Learn, and give all pupils. step: told of each step that is done or needed no more."""
        left, looks, steps = dict(self.pupils), self.training.looks(), self.training.settings.steps
        for number, batch in enumerate([*self.training.batches(), ()]):
            if number in looks:
                self._look(left, number)
                left = {c: pupil for c, pupil in left.items() if not pupil.is_done(self.training.settings.patience)}
            if not left:
                step(steps - number)
                break
            if batch:
                self._step(left, batch, number / steps)
                step(1)
        return list(self.pupils.values())

    def _step(self, left: Mapping[int, Pupil], batch: Sequence[int], progress: float) -> None:
        made = {self._key(c): pupil.learner.tensors(progress) for c, pupil in left.items()}
        found = self._in_memory(batch, left, lambda group, packs: self._slopes(group, packs, made))
        self._check(bool(found.losses.isfinite().all()))
        for place, (c, pupil) in enumerate(left.items(), 1):
            pupil.optimiser.zero_grad()
            pairs = zip(made[self._key(c)], found.gradients[self._key(c)], strict=True)
            reached = [(tensor, slope) for tensor, slope in pairs if tensor.requires_grad]
            penalty = pupil.learner.penalty()
            if penalty.requires_grad:
                reached.append((penalty, torch.ones_like(penalty)))
            torch.autograd.backward([tensor for tensor, _ in reached], [slope for _, slope in reached])
            pupil.optimiser.step()
            pupil.schedule.step()
            pupil.losses.append(float(found.losses[place]))

    def _check(self, is_finite: bool) -> None:
        if not is_finite:
            what = f"a loss of {self.training.group.task} is not finite, and nothing can be learned by it"
            raise EngineError("--dtype", what, "use --dtype float32, or a smaller vector.learning_rate")

    def _slopes(self, group: Group, packs: list[Pack], made: Mapping[str, tuple[Tensor, ...]]) -> Slopes:
        return slopes(self.engine, group, packs, made, self.scorers["logprob"])

    def _look(self, left: Mapping[int, Pupil], number: int) -> None:
        """At the held-out pairs, with the operands as they would be kept."""
        tensors = {c: pupil.learner.finished() for c, pupil in left.items()}
        operands = {self._key(c): operand_of(some) for c, some in tensors.items()}
        loss, accuracy = self._in_memory(
            self.training.held_out, left, lambda group, packs: self._scores(group, packs, operands)
        )
        self._check(bool(np.isfinite(loss[1:]).all()))
        for place, (c, pupil) in enumerate(left.items(), 1):
            learner = pupil.learner
            trained = float(np.mean(pupil.losses)) if pupil.losses else float("nan")
            look = Look(number, trained, float(loss[place]), float(accuracy[place]), learner.rank)
            cost = look.held_out_loss
            if isinstance(learner, Boundless):  # as in its own loss, columns cost a little
                cost += learner.rank / learner.most
            pupil.take(look, cost, tensors[c])

    def _scores(self, group: Group, packs: list[Pack], operands: Mapping) -> tuple[np.ndarray, np.ndarray]:
        """[copy] mean loss, and share of prompts whose answer is all right."""
        shape = len(group.prompts), len(group.copies)
        total, right = np.zeros(shape), np.ones(shape)
        for pack in packs:
            found = self.engine.score_pack(group, pack, operands, self.scorers)
            at = found.prompt, found.copy
            np.add.at(total, at, found.scores["logprob"])
            np.minimum.at(right, at, found.scores["accuracy"])
        return -total.mean(0), right.mean(0)

    def _key(self, copy: int) -> str:
        """Of its vector, as its edit names it."""
        return self.training.keys[copy - 1][0]

    def _in_memory(
        self, prompts: Sequence[int], left: Mapping[int, Pupil], work: Callable[[Group, list[Pack]], T]
    ) -> T:
        """``work`` on these pairs and the copies of these pupils, in passes as small as memory asks for."""
        group = part_of(self.training.group, prompts, [0, *left])
        found: list[T] = []
        while self.budget.tokens > 1:
            packs = self.packs(group, self.budget)
            if fits(lambda some: found.append(work(group, some)), packs, self.engine.release):
                return found[0]
            self.budget = self.budget.halved()
        return work(group, self.packs(group, self.budget))
