"""What every checkpoint is asked, planned once: the study's cells, and decoded prompts, over sequences of the tasks."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from patchboard.experiment.settings import told_of_study
from patchboard.experiments.synthetic.model import facts_of
from patchboard.experiments.synthetic.settings import METRIC, SyntheticSettings
from patchboard.plan.build import plan_from_prompts
from patchboard.plan.model import ModelPlan
from patchboard.spec import Study
from patchboard.spec.sections import ModelSection
from patchboard.tasks.linear_regression import Floats, Mixture, Sequences, Table
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.sets import Role, derangement

_SHUFFLED_SEED = 4


@dataclass(frozen=True)
class Questions:
    """plan: as the engine runs it, of token ids that are rows of ``table`` [token, inputs + 1].

    tests: for the errors, sequences of each task, in the mixture's order.
    """

    plan: ModelPlan
    table: Floats
    tests: tuple[Sequences, ...]


class SequencePrompts:
    """Sequences of a mixture as prompts: a ``plan.prompt_source.PromptSource``.

    A query has no answer under another task: its y is of its own weights.
    """

    knows_other_answers = False

    def __init__(self, mixture: Mixture, seed: int):
        self.mixture, self.seed, self.table = mixture, seed, Table(mixture.inputs)

    @property
    def tasks(self) -> Sequence[str]:
        return self.mixture.names

    def prompts(
        self, role: Role, tasks: Sequence[str], shots: int, count: int,
        others: Sequence[str] = (), shared: bool = False, shuffled: bool = False, asked: Sequence[int] = (),
        corrupted: str | None = None,
    ) -> Mapping[str, Sequence[Prompt]]:  # fmt: skip
        assert not shared and corrupted is None, "refused by study_in"
        sequences = [each for each in sequences_of(self.mixture, role, count, self.seed) if each.task in tasks]
        if shuffled:
            sequences = [self._shuffled(each, shots) for each in sequences]
        return {each.task: self.table.prompts(each, shots) for each in sequences}

    def _shuffled(self, sequences: Sequences, shots: int) -> Sequences:
        """The y of each sequence's demonstrations change places, in all tasks in the same way."""
        y = sequences.y.copy()
        for number, of_one in enumerate(y):
            of_one[:shots] = of_one[derangement(shots, np.random.default_rng([self.seed, _SHUFFLED_SEED, number]))]
        return Sequences(sequences.task, sequences.x, y)

    def describe(self) -> dict[str, Any]:
        return {"family": "linear_regression", "tasks": list(self.tasks)}


def questions_of(settings: SyntheticSettings, study: Study) -> Questions:
    """No sequence of one use (test, evaluate, fit, decodability) is met in another, or in training."""
    mixture, seed = settings.data.mixture, study.points[0].spec.prompts.seed
    source = SequencePrompts(mixture, seed)
    with told_of_study():
        facts = facts_of(settings.model, mixture.pairs)
        plan = plan_from_prompts(study, ModelSection(name=settings.name), facts, source)
    plan = replace(plan, groups=tuple(replace(group, metrics=(METRIC,)) for group in plan.groups))
    tests = sequences_of(mixture, "test", settings.checkpoints.sequences, seed)
    return Questions(plan, source.table.rows, tests)


def sequences_of(mixture: Mixture, use: str, count: int, seed: int) -> tuple[Sequences, ...]:
    """Sequences of each task for one use: told by the seed, the use and the task."""
    code = zlib.crc32(use.encode())
    return tuple(mixture.draw(i, count, np.random.default_rng([seed, code, i])) for i in range(len(mixture.tasks)))
