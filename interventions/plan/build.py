"""Study -> plan: prompts, cells, recipes and decodings, grouped so that nothing is computed twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from patchboard.errors import SpecError
from patchboard.metrics import METRICS, Metric
from patchboard.metrics.base import against_source, is_normalised
from patchboard.plan.cells import OWN_STATE, SAME, STATE, Cell, Edit, position_label, source_of, with_lent
from patchboard.plan.controls import CONTROLS
from patchboard.plan.expansion import cells_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Counterfactual, Decoding, Fit, Group, ModelPlan, ScoredCell
from patchboard.plan.model_limits import check_limits
from patchboard.plan.planned_edits import Answers, Context, FitSetting, is_paired
from patchboard.plan.prompt_source import FamilyPrompts, PromptSource
from patchboard.plan.screen import check_screen
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.plan.unit import read_positions
from patchboard.spec.axes import Point, Study, label
from patchboard.spec.screen import ScreenSection
from patchboard.spec.sections import EMBEDDED, ModelSection, Spec
from patchboard.tasks.base import NULL
from patchboard.tasks.frames import described
from patchboard.tasks.prompt import Prompt
from patchboard.tasks.prompts import Prompter
from patchboard.tasks.resolve import build_family
from patchboard.tasks.sets import BASE, Halves
from patchboard.vectors.base import Place, Recipe

Opener = Callable[[ModelSection], tuple[Any, ModelFacts]]
"""Gives a model's tokenizer and facts without loading weights."""

_ROWS_FIELDS = ("model", "tasks", "prompts.seed", "prompts.bos", "prompts.template")
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
    return [builder.finish() for builder in plans.values()]


def plan_from_prompts(study: Study, section: ModelSection, facts: ModelFacts, source: PromptSource) -> ModelPlan:
    """The study's plan for one model on given prompts, in place of those of the spec's tasks. section: its name."""
    builder = _Builder(section, None, facts, source)
    for point in study.points:
        builder.add(point)
    return builder.finish()


@dataclass
class _OpenGroup:
    """A group while points still add cells to it."""

    id: str
    prompts: tuple[Prompt, ...]
    point: Point
    task: str
    copies: dict[Counterfactual, int] = field(default_factory=dict)
    uses: list[ScoredCell] = field(default_factory=list)
    donors: dict[str, tuple[Prompt, ...]] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    """Target -> the most right answers that any prompt has under it."""
    aligned: set[tuple[Any, ...]] = field(default_factory=set)
    """Sources and positions that are known to fit: layers, heads and sites change nothing about them."""

    def copy(self, copy: Counterfactual) -> int:
        """The copy's number. Where a prompt has several right answers, there is a copy for each."""
        number = self.copies.setdefault(copy, len(self.copies))
        if copy.target not in self.answers:
            self.answers[copy.target] = max((len(p.right(copy.target)) for p in self.prompts), default=1)
        for answer in range(1, self.answers[copy.target]):
            self.copies.setdefault(replace(copy, answer=answer), len(self.copies))
        return number

    def give(self, source: str, evaluated: Mapping[str, tuple[Prompt, ...]]) -> None:
        """Prompts whose states edits of this source take: a task's, in order, the next of this task, or the source of
        that name that each prompt has."""
        if source in self.donors:
            return
        if source in evaluated or source == SAME:
            donors = (*self.prompts[1:], self.prompts[0]) if source == SAME else evaluated[source]
            self.donors[source] = tuple(donors[i % len(donors)] for i in range(len(self.prompts)))
        else:
            lacking = Prompt(self.task, "", "", excluded=f"the row has no source {source}")
            self.donors[source] = tuple(prompt.sources.get(source, lacking) for prompt in self.prompts)

    def use(self, cell: Cell, last_block: int) -> None:
        converted, clean, goal = -1, -1, cell.converts_to
        if any(goal in p.sources for p in self.prompts) and not any(p.differs(goal) for p in self.prompts):
            cell = replace(cell, converts_to="")  # the source's answers are the rows' own
        if cell.converts_to:
            converted = self.copy(Counterfactual(cell.edits, cell.converts_to))
            clean = self.copy(Counterfactual((), cell.converts_to))
        scored = ScoredCell(cell, self.copy(Counterfactual(cell.edits)), converted, clean)
        if cell.source and self.asks(against_source):
            against = (self.copy(Counterfactual(edits, against=cell.source)) for edits in (cell.edits, ()))
            scored = replace(scored, **dict(zip(("against", "clean_against"), against, strict=True)))
        if far_end := self.far_end(cell):
            whole = Edit("patch", "resid_post", last_block, '"last"', 1.0, STATE + far_end)
            scored = replace(scored, far_end=self.copy(Counterfactual((whole,))))
        self.uses.append(scored)

    def asks(self, kind: Callable[[type[Metric]], bool]) -> bool:
        """Whether a metric of that kind is measured."""
        return any(kind(METRICS.get(name, "metrics")) for name in self.point.spec.metrics)

    def far_end(self, cell: Cell) -> str:
        """The source whose run lies at the other end of a normalised metric; "" where there is none, or no such
        metric. Its state at the last block, at the token before the answer, is its run."""
        if not self.asks(is_normalised):
            return ""
        return BASE if self.point.spec.prompts.corrupted else cell.source


class _Builder:
    """Collects the work of all points that share one model."""

    def __init__(self, section: ModelSection, tokenizer: Any, facts: ModelFacts, source: PromptSource | None = None):
        """source: of the prompts; None: the tasks that the spec names, in the tokenizer's tokens."""
        self.section, self.tokenizer, self.facts, self.source = section, tokenizer, facts, source
        self.groups: dict[str, _OpenGroup] = {}
        self.evaluated: dict[str, dict[str, tuple[Prompt, ...]]] = {}  # setting -> task -> prompts
        self.fits: dict[str, Fit] = {}
        self.fit_recipes: dict[str, list[Recipe]] = {}
        self.recipes: dict[str, Recipe] = {}
        self.decodings: dict[str, Decoding] = {}
        self.described: dict[str, Any] = {}
        self.swept: dict[str, dict[str, None]] = {}  # set id -> settings, in order
        self.screen: ScreenSection | None = None
        self._halves: dict[str, Halves] = {}

    def add(self, point: Point) -> None:
        spec = point.spec
        self.screen = spec.screen  # the whole run's
        family_key = f"{spec.tasks.model_dump_json()} seed {spec.prompts.seed}"
        source = self.source or self._family_prompts(spec, family_key)
        self.described[family_key] = source.describe()
        self._add_groups(point, source, family_key)
        self._add_decoding(point, source, family_key)

    def _family_prompts(self, spec: Spec, family_key: str) -> FamilyPrompts:
        if family_key not in self._halves:
            family = build_family(spec.tasks, embedded=spec.model.name == EMBEDDED)
            self._halves[family_key] = Halves(family, spec.prompts.seed)
        prompter = Prompter(self.tokenizer, spec.prompts.template, spec.prompts.bos)
        return FamilyPrompts(self._halves[family_key], prompter)

    def _add_groups(self, point: Point, source: PromptSource, family_key: str) -> None:
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
        for task in real:
            key = f"{family_key} {shown} {task}"
            if key not in self.groups:
                self.groups[key] = self._open_group(point, task, evaluated[task])
            group = self.groups[key]
            self._note_setting(group.id, point, _EVALUATED_FIELDS)
            context = Context(task, task, tasks, self.facts, fit_ids, _label(point), seed=spec.prompts.seed)
            for variant in point.variants:
                for cell, recipes in cells_of(point, variant, spec.controls, context):
                    known = cell if source.knows_other_answers else replace(cell, converts_to="")
                    group.use(known, self.facts.layers - 1)
                    of_edits = map(source_of, with_lent(cell.edits))
                    for donor in filter(None, (*of_edits, cell.source, group.far_end(cell))):
                        prompts_of([donor] if donor in tasks else [])
                        group.give(donor, evaluated)
                    _check_alignment(cell, group)
                    for recipe in recipes:
                        assert self.recipes.get(recipe.key, recipe) == recipe, f"two vectors under {recipe.key}"
                        if recipe.key not in self.recipes:
                            self.recipes[recipe.key] = recipe
                            self.fit_recipes[recipe.fit].append(recipe)

    def _open_group(self, point: Point, task: str, prompts: tuple[Prompt, ...]) -> _OpenGroup:
        group = _OpenGroup(f"{len(self.groups)}-{task}", prompts, point, task)
        noise_copy = Counterfactual((Edit("patch", "resid_post", self.facts.layers // 2, '"last"', 1.0, OWN_STATE),))
        group.copies = {Counterfactual(): 0, noise_copy: 1}
        for copy in (Counterfactual(), noise_copy):  # with those of their further answers
            group.copy(copy)
        return group

    def _fits(self, point: Point, source: PromptSource, family_key: str) -> dict[FitSetting, str]:
        """Ids of the fits of every vector of the point, and of its controls."""
        vectors = [part.vector for variant in point.variants for part in variant.section.parts if part.vector]
        requested: set[Answers] = {"own"}
        requested.update(CONTROLS.get(control.name, "controls").answers for control in point.spec.controls)
        ids: dict[FitSetting, str] = {}
        for answers in sorted(requested):  # "own" first: shuffled ones are judged by them
            for vector in vectors:
                setting = FitSetting(vector.shots, vector.prompts, answers)
                if setting in ids or (answers != "own" and not is_paired(vector)):
                    continue
                key = f"{family_key} {_text_key(point)} {setting}"
                if key not in self.fits:
                    own = None if answers == "own" else self._fit_of_id(ids[setting._replace(answers="own")])
                    self.fits[key] = self._fit(setting, source, own)
                    self.fit_recipes[self.fits[key].id] = []
                ids[setting] = self.fits[key].id
                self._note_setting(self.fits[key].id, point, _ROWS_FIELDS)
        return ids

    def _fit_of_id(self, fit_id: str) -> Fit:
        return next(fit for fit in self.fits.values() if fit.id == fit_id)

    def _fit(self, setting: FitSetting, source: PromptSource, own: Fit | None) -> Fit:
        """A fit without recipes. own: of the same rows with their own labels, by which shuffled ones are judged; what
        is excluded there is excluded here."""
        tasks, shuffled = tuple(source.tasks), setting.answers == "shuffled"
        drawn = source.prompts("fit", tasks, setting.shots, setting.prompts, shuffled=shuffled)
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
        known = self.decodings[key]
        self._note_setting(known.id, point, ("decodability", *_ROWS_FIELDS))
        swept = tuple(
            (path, value) for path, value in point.swept.items() if _bears_on(path, ("decodability", *_ROWS_FIELDS))
        )
        if swept not in known.swept:
            self.decodings[key] = replace(known, swept=(*known.swept, swept))

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
            layers = tuple(sorted({block for recipe in recipes for block in recipe.blocks}))
            keep_states = any(recipe.needs_states for recipe in recipes)
            judge = fit.judged_by if any(recipe.only == "correct" for recipe in recipes) else ""
            fits.append(replace(fit, layers=layers, places=places, keep_states=keep_states, judged_by=judge))
        plan = ModelPlan(
            section=self.section,
            facts=self.facts,
            groups=tuple(self._close(group) for group in self.groups.values()),
            fits=tuple(fits),
            recipes=self.recipes,
            decodings=tuple(self.decodings.values()),
            tasks=self.described,
            swept={set_id: tuple(settings) for set_id, settings in self.swept.items()},
            frames=described(self._prompts(), self.tokenizer),
            screen=self.screen,
        )
        check_screen(plan)
        if self.source is None:  # else its ids may be another thing than places in a vocabulary
            check_limits(plan)
        return plan

    def _prompts(self) -> Iterator[Prompt]:
        """All prompts of the plan."""
        for group in self.groups.values():
            yield from group.prompts
        for each in (*self.fits.values(), *self.decodings.values()):
            yield from chain.from_iterable(each.prompts.values())

    def _close(self, group: _OpenGroup) -> Group:
        spec = group.point.spec
        return Group(
            id=group.id,
            task=group.task,
            shots=spec.prompts.shots,
            seed=spec.prompts.seed,
            prompts=group.prompts,
            foils=_foils(group.prompts),
            copies=tuple(group.copies),
            noise_copy=1,
            uses=tuple(group.uses),
            metrics=tuple(spec.metrics),
            prefix=_common_prefix(group.prompts) if spec.prompts.demonstrations == "shared" else 0,
            donors=group.donors,
            requested=spec.prompts.queries,
            corrupted=spec.prompts.corrupted is not None,
        )


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


def _common_prefix(prompts: Sequence[Prompt]) -> int:
    """How many first tokens all prompts share; the last token of each is its own."""
    tokens = [p.token_ids for p in prompts if not p.excluded]
    if not tokens:
        return 0
    low, high = min(tokens), max(tokens)  # in lexical order all others lie between them
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return min(shared, *(len(ids) - 1 for ids in tokens))


def _text_key(point: Point) -> str:
    """What of the prompts' settings decides how rows become tokens."""
    return point.spec.prompts.model_dump_json(include={"bos", "template"})


def _label(point: Point) -> str:
    """The swept global fields on which a vector depends, as part of its key."""
    return ",".join(f"{path}={label(value)}" for path, value in point.swept.items() if _bears_on(path, _ROWS_FIELDS))


def _bears_on(path: str, fields: Sequence[str]) -> bool:
    """Whether a swept path is one of the fields, inside one, or a section that holds one."""
    return any(path == f or path.startswith(f + ".") or f.startswith(path + ".") for f in fields)


def _check_alignment(cell: Cell, group: _OpenGroup) -> None:
    """Raises SpecError where an edit has another number of tokens than the source of the rows that it takes them from.

    Prompts of a task are another matter: those that do not fit give no outcome.
    """
    for edit in with_lent(cell.edits):
        source = source_of(edit)
        places = source, edit.position, edit.read and (edit.read.position, edit.read.filled)
        if not source or places in group.aligned or not any(source in prompt.sources for prompt in group.prompts):
            continue
        group.aligned.add(places)
        unequal = []
        for i, (prompt, donor) in enumerate(zip(group.prompts, group.donors[source], strict=True)):
            if not prompt.excluded and not donor.excluded:
                edited = positions_of(prompt, edit.position, len(clean_tokens(prompt)))
                read = read_positions(donor, edit, len(edited))
                unequal += [(i, len(edited), len(read))] if len(edited) != len(read) else []
        if unequal:
            i, edited, read = unequal[0]
            at = position_label(edit.position)
            what = (
                f"position {at} has {edited} tokens in query {i} and {read} in its source {source}"
                f" (so do {len(unequal)} of {len(group.prompts)} queries)"
            )
            remedy = f"write source: {{name: {source}, align: last}}, or first, or all"
            raise SpecError(f"interventions.{cell.intervention}.source", what, remedy)


def _foils(prompts: tuple[Prompt, ...]) -> tuple[int, ...]:
    """A wrong answer's first token for each prompt: one that its row brings, else the answer of another task to the
    same query, or failing that of the nearest other query; -1 where all first tokens agree."""
    foils = []
    for i, prompt in enumerate(prompts):
        after_it = (prompts[j] for j in chain(range(i + 1, len(prompts)), range(i)))
        others = chain(
            prompt.foils,
            (ids[0] for ids in prompt.alternatives.values()),
            (p.answer_ids[0] for p in after_it if p.answer_ids),
        )
        right = {ids[0] for ids in prompt.right()}
        foils.append(next((token for token in others if token not in right), -1))
    return tuple(foils)
