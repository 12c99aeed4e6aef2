"""Study -> plan: prompts, cells, recipes and decodings, grouped so that nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from patchboard.errors import SpecError
from patchboard.plan.cells import position_label, source_of, with_lent
from patchboard.plan.context import Answers, Context, FitSetting, is_paired, setting_of
from patchboard.plan.controls import CONTROLS
from patchboard.plan.controls.unrelated import UNRELATED
from patchboard.plan.expansion import cells_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.feature_edits import check_single_tokens
from patchboard.plan.guardedness import Guardings, check_guardedness
from patchboard.plan.learning import OpenTrainings
from patchboard.plan.model import Decoding, Fit, ModelPlan
from patchboard.plan.model_limits import check_limits
from patchboard.plan.open_group import OpenGroup, check_alignment, opened
from patchboard.plan.prompt_source import FamilyPrompts, PromptSource
from patchboard.plan.queries import check_queries
from patchboard.plan.screen import check_screen
from patchboard.plan.shown import with_top_tokens
from patchboard.plan.suffix import positions_of
from patchboard.plan.texts import check_texts
from patchboard.spec.axes import Point, Study, label
from patchboard.spec.generate import GenerateSection
from patchboard.spec.screen import ScreenSection
from patchboard.spec.sections import EMBEDDED, ModelSection, Spec
from patchboard.tasks.base import NULL
from patchboard.tasks.chat import Chat
from patchboard.tasks.contrast import SIDES, contrast_prompts, read_pairs
from patchboard.tasks.encode import Encoder
from patchboard.tasks.frames import described
from patchboard.tasks.plain_texts import plain_texts, text_prompts
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sets import Halves
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.files.located import located

Opener = Callable[[ModelSection], tuple[Any, ModelFacts]]
"""Gives a model's tokenizer and facts without loading weights."""

_ROWS_FIELDS = ("model", "tasks", "prompts.seed", "prompts.bos", "prompts.template", "prompts.chat", "prompts.system")
"""Global fields on which fit and decoded prompts depend."""
_EVALUATED_FIELDS = ("model", "tasks", "prompts", "controls", "metrics")
"""Global fields by which groups of evaluated prompts differ."""


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
        self.fits: dict[str, Fit] = {}
        self.fit_recipes: dict[str, list[Recipe]] = {}
        self.recipes: dict[str, Recipe] = {}
        self.decodings: dict[str, Decoding] = {}
        self.guardings = Guardings()
        self.described: dict[str, Any] = {}
        self.swept: dict[str, dict[str, None]] = {}  # set id -> settings, in order
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
        self._add_guardings(point, source, f"{family_key} {_text_key(point)}", contexts)

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
        fit_ids = self._fits(point, source, family_key)
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
            self._note_setting(group.id, point, _EVALUATED_FIELDS)
            contexts[task] = context = Context(
                task, task, tasks, self.facts, fit_ids, _label(point), seed=spec.prompts.seed, model=self.section,
                shots=spec.prompts.shots, shots_label=_label(point, ["prompts.shots"]),
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
                                self.fit_recipes[recipe.fit].append(recipe)
                            if planned.taught is not None:
                                self.trainings.add(recipe, planned.taught, f"interventions.{variant.name}.vector")
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
        self._note_setting(self.groups[key].id, point, _EVALUATED_FIELDS)
        return self.groups[key]

    def _fits(self, point: Point, source: PromptSource, family_key: str) -> dict[FitSetting, str]:
        """Ids of the fits of every vector of the point, and of its controls."""
        parts = [part for variant in point.variants for part in variant.section.parts]
        vectors = [part.vector for part in parts if part.vector and part.vector.file is None]
        requested: set[Answers] = {"own"}
        requested.update(CONTROLS.get(control.name, "controls").answers for control in point.spec.controls)
        ids: dict[FitSetting, str] = {}
        for answers in sorted(requested):  # "own" first: shuffled ones are judged by them
            for vector in vectors:
                setting = setting_of(vector, answers, point.spec.prompts.shots)
                if setting in ids or (answers != "own" and not is_paired(vector)):
                    continue
                key = f"{family_key} {_text_key(point)} {setting}"
                if key not in self.fits:
                    own = None if answers == "own" else self._fit_of_id(ids[setting._replace(answers="own")])
                    self.fits[key] = (
                        self._fit(setting, source, own) if not setting.texts else self._texts(setting, point)
                    )
                    self.fit_recipes[self.fits[key].id] = []
                ids[setting] = self.fits[key].id
                self._note_setting(self.fits[key].id, point, _ROWS_FIELDS)
        return ids

    def _fit_of_id(self, fit_id: str) -> Fit:
        return next(fit for fit in self.fits.values() if fit.id == fit_id)

    def _texts(self, setting: FitSetting, point: Point) -> Fit:
        """A fit on a file of paired texts, as they stand there. Raises SpecError where prompts are no text."""
        if self.source is not None:
            raise SpecError("interventions", "contrast needs texts, and prompts here are none", "use another vector")
        file = located(setting.texts, "interventions")
        pairs = read_pairs(file.path, "interventions")
        section = point.spec.prompts
        chat = Chat(self.tokenizer, section.system) if section.chat else None
        prompts = contrast_prompts(pairs, Encoder(self.tokenizer, section.bos), "interventions", chat)
        return Fit(f"fit{len(self.fits)}", prompts, SIDES, 0, (), (), False)

    def _fit(self, setting: FitSetting, source: PromptSource, own: Fit | None) -> Fit:
        """A fit without recipes. own: of the same rows with their own labels, by which shuffled ones are judged; what
        is excluded there is excluded here."""
        tasks, shuffled = tuple(source.tasks), setting.answers == "shuffled"
        others = [task for task in tasks if task != NULL] if setting.others else []
        drawn = source.prompts("fit", tasks, setting.shots, setting.prompts, others=others, shuffled=shuffled)
        prompts = {task: tuple(rows) for task, rows in drawn.items()}
        if own is not None:
            prompts = {
                task: tuple(
                    replace(prompt, excluded=prompt.excluded or twin.excluded)
                    for prompt, twin in zip(rows, own.prompts[task], strict=True)
                )
                for task, rows in prompts.items()
            }
        judge = own.id if own else ""
        return Fit(f"fit{len(self.fits)}", prompts, tasks, setting.shots, (), (), False, setting.answers, judge)

    def _add_decoding(self, point: Point, source: PromptSource, family_key: str) -> None:
        section = point.spec.decodability
        if section is None:
            return
        key = f"{family_key} {_text_key(point)} {section.model_dump_json()}"
        if key not in self.decodings:
            drawn = source.prompts(
                "decodability", source.tasks, max(section.shots), section.prompts, asked=section.shots
            )
            prompts = {task: tuple(rows) for task, rows in drawn.items()}
            self.decodings[key] = Decoding(f"cd{len(self.decodings)}", section, prompts, (), point.spec.prompts.seed)
            check_queries(self.decodings[key])
        known = self.decodings[key]
        self._note_setting(known.id, point, ("decodability", *_ROWS_FIELDS))
        swept = tuple(
            (path, value) for path, value in point.swept.items() if _bears_on(path, ("decodability", *_ROWS_FIELDS))
        )
        if swept not in known.swept:
            self.decodings[key] = replace(known, swept=(*known.swept, swept))

    def _add_guardings(
        self, point: Point, source: PromptSource, prompts_key: str, contexts: Mapping[str, Context]
    ) -> None:
        """prompts_key: what decides the rows and how they become tokens."""
        swept = tuple((path, value) for path, value in point.swept.items() if _bears_on(path, _ROWS_FIELDS))
        fits = {fit.id: fit for fit in self.fits.values()}
        for id_ in self.guardings.add(point, source, prompts_key, contexts, fits, swept):
            self._note_setting(id_, point, _ROWS_FIELDS)

    def _note_setting(self, set_id: str, point: Point, fields: Sequence[str]) -> None:
        """Remember that the set holds prompts of this point's setting of the fields."""
        chosen = [f"{path}={label(value)}" for path, value in point.swept.items() if _bears_on(path, fields)]
        self.swept.setdefault(set_id, {})[", ".join(chosen)] = None

    def finish(self) -> ModelPlan:
        fits = []
        for fit in self.fits.values():
            recipes = self.fit_recipes[fit.id]
            places = tuple(dict.fromkeys(recipe.place for recipe in recipes))
            _check_places(fit, places)
            check_single_tokens(fit, recipes)
            layers = tuple(sorted({block for recipe in recipes for block in recipe.blocks}))
            keep_states = any(recipe.needs_states for recipe in recipes)
            judge = fit.judged_by if any(recipe.only == "correct" for recipe in recipes) else ""
            fits.append(replace(fit, layers=layers, places=places, keep_states=keep_states, judged_by=judge))
        plan = ModelPlan(
            section=self.section,
            facts=self.facts,
            groups=tuple(group.close() for group in self.groups.values()),
            fits=tuple(fits),
            recipes=self.recipes,
            decodings=tuple(self.decodings.values()),
            tasks=self.described,
            swept={set_id: tuple(settings) for set_id, settings in self.swept.items()},
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
        for each in (*self.fits.values(), *self.decodings.values()):
            yield from chain.from_iterable(each.prompts.values())
        for guarding in self.guardings.all():
            if guarding.half == "held_out":
                yield from chain.from_iterable(guarding.prompts.values())


def _check_places(fit: Fit, places: Sequence[Place]) -> None:
    """Raises SpecError where the fit prompts of some task cannot be used, or none has a place's position."""
    for task, prompts in fit.prompts.items():
        usable = [p for p in prompts if not p.excluded]
        if not usable:
            why = prompts[0].excluded
            raise SpecError(
                "tasks", f"no fit prompt of {task} can be used: {why}", "change the task, template or model"
            )
        for place in places:
            if not any(positions_of(p, place.position, len(p.token_ids) + len(p.answer_ids) - 1) for p in usable):
                where = position_label(place.position)
                what = f"position {where} names no token in any fit prompt of {task} ({fit.shots} shots)"
                raise SpecError("interventions", what, "change the position, or vector.shots")


def _text_key(point: Point) -> str:
    """What of the prompts' settings decides how rows become tokens."""
    return point.spec.prompts.model_dump_json(include={"bos", "template", "chat", "system"})


def _label(point: Point, fields: Sequence[str] = _ROWS_FIELDS) -> str:
    """The swept global fields on which a vector depends, as part of its key."""
    return ",".join(f"{path}={label(value)}" for path, value in point.swept.items() if _bears_on(path, fields))


def _bears_on(path: str, fields: Sequence[str]) -> bool:
    """Whether a swept path is one of the fields, inside one, or a section that holds one."""
    return any(path == f or path.startswith((f"{f}.", f"{f}[")) or f.startswith(f"{path}.") for f in fields)
