"""What every checkpoint is asked, planned once: sequences as prompts, and the study's cells over them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from patchboard.experiment.settings import told_of_study
from patchboard.experiments.synthetic.model import facts_of
from patchboard.experiments.synthetic.settings import METRIC, SyntheticSettings
from patchboard.plan.cells import OWN_STATE, SAME, Cell, Edit, source_of
from patchboard.plan.expansion import cells_of
from patchboard.plan.model import Counterfactual, Decoding, Fit, Group, ModelPlan, ScoredCell
from patchboard.plan.planned_edits import Context, FitSetting
from patchboard.spec import Study
from patchboard.spec.sections import ModelSection
from patchboard.tasks.linear_regression import Floats, Mixture, Sequences, Table
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.base import Recipe


@dataclass(frozen=True)
class Questions:
    """plan: as the engine runs it, of token ids that are rows of ``table`` [token, inputs + 1].

    tests: for the errors, sequences of each task, in the mixture's order.
    """

    plan: ModelPlan
    table: Floats
    tests: tuple[Sequences, ...]


def questions_of(settings: SyntheticSettings, study: Study) -> Questions:
    """No sequence of one use (test, evaluate, fit, decodability) is met in another, or in training."""
    mixture, (point,) = settings.data.mixture, study.points
    seed, names, table = point.spec.prompts.seed, mixture.names, Table(mixture.inputs)
    shots, queries = point.spec.prompts.shots, point.spec.prompts.queries

    def prompts(use: str, shots: int, count: int) -> dict[str, tuple[Prompt, ...]]:
        return {drawn.task: table.prompts(drawn, shots) for drawn in drawn_for(mixture, use, count, seed)}

    facts = facts_of(settings.model, mixture.pairs)
    evaluated = prompts("evaluate", shots, queries)
    fits: dict[FitSetting, Fit] = {}
    for variant in point.variants:
        for vector in filter(None, (part.vector for part in variant.section.parts)):
            key = FitSetting(vector.shots, vector.prompts)
            if key not in fits:
                drawn = prompts("fit", key.shots, key.prompts)
                fits[key] = Fit(f"fit{len(fits)}", drawn, names, vector.shots, (), (), False)
    fit_ids = {key: fit.id for key, fit in fits.items()}
    recipes: dict[str, Recipe] = {}
    groups = []
    for number, name in enumerate(names):
        group = _OpenGroup(evaluated, name, facts.layers // 2)
        context = Context(name, name, names, facts, fit_ids, "")
        for variant in point.variants:
            with told_of_study():
                found = list(cells_of(point, variant, point.spec.controls, context))
            for cell, needed in found:
                # no other task has an answer to this query: the inputs are its own
                group.use(replace(cell, converts_to=""))
                recipes |= {recipe.key: recipe for recipe in needed}
        groups.append(group.closed(f"{number}-{name}", shots, seed))
    section, decodings = point.spec.decodability, ()
    if section is not None:
        decodings = (Decoding("cd0", section, prompts("decodability", max(section.shots), section.prompts), ()),)
    plan = ModelPlan(
        ModelSection(name=settings.name), facts, tuple(groups), tuple(_closed(fit, recipes) for fit in fits.values()),
        recipes, decodings, {},
    )  # fmt: skip
    tests = drawn_for(mixture, "test", settings.checkpoints.sequences, seed)
    return Questions(plan, table.rows, tests)


def drawn_for(mixture: Mixture, use: str, count: int, seed: int) -> tuple[Sequences, ...]:
    """Sequences of each task for one use: told by the seed, the use and the task."""
    code = zlib.crc32(use.encode())
    return tuple(mixture.draw(i, count, np.random.default_rng([seed, code, i])) for i in range(len(mixture.tasks)))


class _OpenGroup:
    """A task's prompts while cells are added."""

    def __init__(self, evaluated: dict[str, tuple[Prompt, ...]], task: str, middle: int):
        self.evaluated, self.task, self.uses = evaluated, task, []
        self.donors: dict[str, tuple[Prompt, ...]] = {}
        probe = Counterfactual((Edit("patch", "resid_post", middle, '"last"', 1.0, OWN_STATE),))
        self.copies: dict[Counterfactual, int] = {Counterfactual(): 0, probe: 1}

    def use(self, cell: Cell) -> None:
        self.uses.append(ScoredCell(cell, self.copies.setdefault(Counterfactual(cell.edits), len(self.copies))))
        own = self.evaluated[self.task]
        for source in filter(None, map(source_of, cell.edits)):
            self.donors[source] = (*own[1:], own[0]) if source == SAME else self.evaluated[source]

    def closed(self, group_id: str, shots: int, seed: int) -> Group:
        prompts = self.evaluated[self.task]
        return Group(
            group_id, self.task, shots, seed, prompts, (-1,) * len(prompts), tuple(self.copies), 1, tuple(self.uses),
            (METRIC,), donors=self.donors, asked=len(prompts),
        )  # fmt: skip


def _closed(fit: Fit, recipes: dict[str, Recipe]) -> Fit:
    own = [recipe for recipe in recipes.values() if recipe.fit == fit.id]
    places = tuple(dict.fromkeys(recipe.place for recipe in own))
    return replace(
        fit,
        layers=tuple(sorted({block for recipe in own for block in recipe.blocks})),
        places=places,
        keep_states=any(recipe.needs_states for recipe in own),
    )
