"""Study -> plan: prompts, cells, recipes and decodings, grouped so that nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from patchboard.errors import SpecError
from patchboard.plan.cells import source_of, with_lent
from patchboard.plan.context import Context
from patchboard.plan.controls.unrelated import UNRELATED
from patchboard.plan.expansion import cells_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.guardedness import Guardings, check_guardedness
from patchboard.plan.learning import OpenTrainings
from patchboard.plan.model import Decoding, ModelPlan
from patchboard.plan.model_limits import check_limits
from patchboard.plan.open_fits import OpenFits
from patchboard.plan.open_group import OpenGroup, check_alignment, opened
from patchboard.plan.prompt_source import FamilyPrompts, PromptSource
from patchboard.plan.queries import check_queries
from patchboard.plan.screen import check_screen
from patchboard.plan.shown import with_top_tokens
from patchboard.plan.swept_settings import EVALUATED_FIELDS, ROWS_FIELDS, SweptSettings, bears_on, label_of, text_key
from patchboard.plan.texts import check_texts
from patchboard.spec.axes import Point, Study
from patchboard.spec.generate import GenerateSection
from patchboard.spec.screen import ScreenSection
from patchboard.spec.sections import EMBEDDED, ModelSection, Spec
from patchboard.tasks.base import NULL
from patchboard.tasks.frames import described
from patchboard.tasks.plain_texts import plain_texts, text_prompts
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sets import Halves
from patchboard.vectors.base import Recipe
from patchboard.vectors.files.located import located

Opener = Callable[[ModelSection], tuple[Any, ModelFacts]]
"""Gives a model's tokenizer and facts without loading weights."""


def build_plans(study: Study, open_model: Opener) -> list[ModelPlan]:
    """One plan for each model of the study (several only where ``model.*`` is swept)."""
    plans: dict[str, _Builder] = {}
    for point in study.points:
        key = point.spec.model.model_dump_json()
        if key not in plans:
            plans[key] = _Builder(point.spec.model, *open_model(point.spec.model))
        plans[key].add(point)
    return with_top_tokens([builder.finish() for builder in plans.values()], study.points[0].spec.top_tokens)


def plan_from_prompts(study: Study, section: ModelSection, facts: ModelFacts, source: PromptSource) -> ModelPlan:
    """The study's plan for one model on given prompts, in place of those of the spec's tasks. section: its name."""
    builder = _Builder(section, None, facts, source)
    for point in study.points:
        builder.add(point)
    (plan,) = with_top_tokens([builder.finish()], study.points[0].spec.top_tokens)
    return plan


class _Builder:
    """Collects the work of all points that share one model."""

    def __init__(self, section: ModelSection, tokenizer: Any, facts: ModelFacts, source: PromptSource | None = None):
        """source: of the prompts; None: the tasks that the spec names, in the tokenizer's tokens."""
        self.section, self.tokenizer, self.facts, self.source = section, tokenizer, facts, source
        self.groups: dict[str, OpenGroup] = {}
        self.evaluated: dict[str, dict[str, tuple[Prompt, ...]]] = {}  # setting -> task -> prompts
        self.swept = SweptSettings()
        self.fits = OpenFits(tokenizer, self.swept, has_texts=source is None)
        self.recipes: dict[str, Recipe] = {}
        self.decodings: dict[str, Decoding] = {}
        self.guardings = Guardings()
        self.described: dict[str, Any] = {}
        self.trainings = OpenTrainings()
        self.screen: ScreenSection | None = None
        self.generate: GenerateSection | None = None
        self._halves: dict[str, Halves] = {}

    def add(self, point: Point) -> None:
        spec = point.spec
        self.screen, self.generate = spec.screen, spec.generate  # the whole run's
        family_key = f"{spec.tasks.model_dump_json()} seed {spec.prompts.seed}"
        source = self.source or self._family_prompts(spec, family_key)
        self.described[family_key] = source.describe()
        contexts = self._add_groups(point, source, family_key)
        self._add_decoding(point, source, family_key)
        self._add_guardings(point, source, f"{family_key} {text_key(point)}", contexts)

    def _family_prompts(self, spec: Spec, family_key: str) -> FamilyPrompts:
        if family_key not in self._halves:
            family = build_family(spec.tasks, embedded=spec.model.name == EMBEDDED)
            self._halves[family_key] = Halves(family, spec.prompts.seed)
        prompts = spec.prompts
        prompter = Prompter(self.tokenizer, prompts.template, prompts.bos, prompts.chat, prompts.system)
        return FamilyPrompts(self._halves[family_key], prompter)

    def _add_groups(self, point: Point, source: PromptSource, family_key: str) -> dict[str, Context]:
        """Gives the context of each real task's cells."""
        spec, tasks = point.spec, tuple(source.tasks)
        real = [task for task in tasks if task != NULL]
        fit_ids = self.fits.of_point(point, source, f"{family_key} {text_key(point)}")
        shown = json.dumps([spec.prompts.model_dump(), [c.model_dump() for c in spec.controls], spec.metrics])
        evaluated = self.evaluated.setdefault(f"{family_key} {shown}", {})

        def prompts_of(tasks: Sequence[str]) -> None:
            """Make those tasks' evaluated prompts that are not made yet."""
            lacking = [task for task in tasks if task not in evaluated]
            made = source.prompts(
                "evaluate", lacking, spec.prompts.shots, spec.prompts.queries,
                others=real, shared=spec.prompts.demonstrations == "shared", shuffled=spec.prompts.labels == "shuffled",
                corrupted=spec.prompts.corrupted,
            )  # fmt: skip
            evaluated.update({task: tuple(prompts) for task, prompts in made.items()})

        prompts_of(real)
        contexts: dict[str, Context] = {}
        for task in real:
            key = f"{family_key} {shown} {task}"
            if key not in self.groups:
                self.groups[key] = opened(f"{len(self.groups)}-{task}", point, task, evaluated[task], self.facts.layers)
            group = self.groups[key]
            self.swept.note(group.id, point, EVALUATED_FIELDS)
            contexts[task] = context = Context(
                task, task, tasks, self.facts, fit_ids, label_of(point, ROWS_FIELDS), seed=spec.prompts.seed,
                model=self.section, shots=spec.prompts.shots, shots_label=label_of(point, ["prompts.shots"]),
            )  # fmt: skip
            for variant in point.variants:
                for cell, fitted in cells_of(point, variant, spec.controls, context):
                    known = cell if source.knows_other_answers else replace(cell, converts_to="")
                    home = group if cell.texts is None else self._group_of_texts(key, point, task, cell.texts)
                    home.use(known, self.facts.layers - 1)
                    of_edits = map(source_of, with_lent(cell.edits))
                    for donor in filter(None, (*of_edits, cell.source, home.far_end(cell))):
                        prompts_of([donor] if donor in tasks else [])
                        home.give(donor, evaluated)
                    check_alignment(cell, home)
                    for planned in fitted:
                        recipe = planned.recipe
                        assert recipe is not None
                        assert self.recipes.get(recipe.key, recipe) == recipe, f"two vectors under {recipe.key}"
                        if recipe.key not in self.recipes:
                            self.recipes[recipe.key] = recipe
                            if recipe.given is None:
                                self.fits.use(recipe)
                            if planned.taught is not None:
                                self.trainings.add(recipe, planned.taught, f"{planned.where}.vector")
        return contexts

    def _group_of_texts(self, key: str, point: Point, task: str, file: str) -> OpenGroup:
        """The group of a task's edits in texts of no task. key: of the task's own group. Raises SpecError where prompts
        are no text, TaskError for a text that cannot be read."""
        where = f"controls.{UNRELATED}"
        if self.source is not None:
            raise SpecError(where, "needs texts, and prompts here are none", "leave it out")
        key += " texts"
        if key not in self.groups:
            path = located(file, where).path if file else None
            texts = plain_texts(path, self.section.name == EMBEDDED, where)
            prompts = text_prompts(texts, self.tokenizer, point.spec.prompts.bos, task, where)
            name = f"{len(self.groups)}-{task}-{UNRELATED}"
            self.groups[key] = opened(name, point, task, prompts, self.facts.layers, UNRELATED)
        self.swept.note(self.groups[key].id, point, EVALUATED_FIELDS)
        return self.groups[key]

    def _add_decoding(self, point: Point, source: PromptSource, family_key: str) -> None:
        section = point.spec.decodability
        if section is None:
            return
        key = f"{family_key} {text_key(point)} {section.model_dump_json()}"
        if key not in self.decodings:
            drawn = source.prompts(
                "decodability", source.tasks, max(section.shots), section.prompts, asked=section.shots
            )
            prompts = {task: tuple(rows) for task, rows in drawn.items()}
            self.decodings[key] = Decoding(f"cd{len(self.decodings)}", section, prompts, (), point.spec.prompts.seed)
            check_queries(self.decodings[key])
        known = self.decodings[key]
        self.swept.note(known.id, point, ("decodability", *ROWS_FIELDS))
        swept = tuple(
            (path, value) for path, value in point.swept.items() if bears_on(path, ("decodability", *ROWS_FIELDS))
        )
        if swept not in known.swept:
            self.decodings[key] = replace(known, swept=(*known.swept, swept))

    def _add_guardings(
        self, point: Point, source: PromptSource, prompts_key: str, contexts: Mapping[str, Context]
    ) -> None:
        """prompts_key: what decides the rows and how they become tokens."""
        swept = tuple((path, value) for path, value in point.swept.items() if bears_on(path, ROWS_FIELDS))
        for id_ in self.guardings.add(point, source, prompts_key, contexts, self.fits.by_id, swept):
            self.swept.note(id_, point, ROWS_FIELDS)

    def finish(self) -> ModelPlan:
        fits = self.fits.close()
        plan = ModelPlan(
            section=self.section,
            facts=self.facts,
            groups=tuple(group.close() for group in self.groups.values()),
            fits=fits,
            recipes=self.recipes,
            decodings=tuple(self.decodings.values()),
            tasks=self.described,
            swept=self.swept.all(),
            frames=described(self._prompts(), self.tokenizer),
            screen=self.screen,
            generate=self.generate,
            guardings=self.guardings.all(),
            trainings=self.trainings.close({fit.id: fit for fit in fits}),
        )
        check_guardedness(plan.guardings)
        check_screen(plan)
        if self.source is not None and self.generate is not None:
            raise SpecError("generate", "goes on from texts, and prompts here are none", "leave it out")
        check_texts(plan)
        if self.source is None:  # else its ids may be another thing than places in a vocabulary
            check_limits(plan)
        return plan

    def _prompts(self) -> Iterator[Prompt]:
        """All prompts of the plan."""
        for group in self.groups.values():
            yield from group.prompts
        for each in (*self.fits.by_id.values(), *self.decodings.values()):
            yield from chain.from_iterable(each.prompts.values())
        for guarding in self.guardings.all():
            if guarding.half == "held_out":
                yield from chain.from_iterable(guarding.prompts.values())
