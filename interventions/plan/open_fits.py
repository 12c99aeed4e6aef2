"""Fits of one model's plan while points still ask for them, and where their states are to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from patchboard.errors import SpecError
from patchboard.plan.cells import position_label
from patchboard.plan.context import Answers, FitSetting, is_paired, setting_of
from patchboard.plan.controls import CONTROLS
from patchboard.plan.feature_edits import check_single_tokens
from patchboard.plan.model import Fit
from patchboard.plan.prompt_source import PromptSource
from patchboard.plan.suffix import positions_of
from patchboard.plan.swept_settings import ROWS_FIELDS, SweptSettings
from patchboard.spec.axes import Point
from patchboard.tasks.base import NULL
from patchboard.tasks.chat import Chat
from patchboard.tasks.contrast import SIDES, contrast_prompts, read_pairs
from patchboard.tasks.encode import Encoder
from patchboard.vectors.base import Place, Recipe
from patchboard.vectors.files.located import located


class OpenFits:
    """Each set of prompts that vectors are fitted on, once."""

    def __init__(self, tokenizer: Any, swept: SweptSettings, has_texts: bool):
        """has_texts: whether prompts are texts in the tokenizer's tokens."""
        self._tokenizer, self._swept, self._has_texts = tokenizer, swept, has_texts
        self.by_id: dict[str, Fit] = {}
        """Without what is read of them, until they are closed."""
        self._ids: dict[str, str] = {}  # what decides the prompts -> id
        self._recipes: dict[str, list[Recipe]] = {}  # id -> recipes

    def of_point(self, point: Point, source: PromptSource, prompts_key: str) -> dict[FitSetting, str]:
        """Ids of the fits of every vector of the point, and of its controls. prompts_key: what decides the rows and how
        they become tokens."""
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
                key = f"{prompts_key} {setting}"
                if key not in self._ids:
                    own = None if answers == "own" else self.by_id[ids[setting._replace(answers="own")]]
                    made = self._fit(setting, source, own) if not setting.texts else self._texts(setting, point)
                    self.by_id[made.id], self._recipes[made.id], self._ids[key] = made, [], made.id
                ids[setting] = self._ids[key]
                self._swept.note(ids[setting], point, ROWS_FIELDS)
        return ids

    def use(self, recipe: Recipe) -> None:
        """Have its fit read states where the recipe needs them."""
        self._recipes[recipe.fit].append(recipe)

    def _texts(self, setting: FitSetting, point: Point) -> Fit:
        """A fit on a file of paired texts, as they stand there. Raises SpecError where prompts are no text."""
        if not self._has_texts:
            raise SpecError("interventions", "contrast needs texts, and prompts here are none", "use another vector")
        file = located(setting.texts, "interventions")
        pairs = read_pairs(file.path, "interventions")
        section = point.spec.prompts
        chat = Chat(self._tokenizer, section.system) if section.chat else None
        prompts = contrast_prompts(pairs, Encoder(self._tokenizer, section.bos), "interventions", chat)
        return Fit(f"fit{len(self.by_id)}", prompts, SIDES, 0, (), (), False)

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
        return Fit(f"fit{len(self.by_id)}", prompts, tasks, setting.shots, (), (), False, setting.answers, judge)

    def close(self) -> tuple[Fit, ...]:
        """The fits with all that is read of them. Raises SpecError where one has no prompt, or none with a position."""
        fits = []
        for fit in self.by_id.values():
            recipes = self._recipes[fit.id]
            places = tuple(dict.fromkeys(recipe.place for recipe in recipes))
            _check_places(fit, places)
            check_single_tokens(fit, recipes)
            layers = tuple(sorted({block for recipe in recipes for block in recipe.blocks}))
            keep_states = any(recipe.needs_states for recipe in recipes)
            judge = fit.judged_by if any(recipe.only == "correct" for recipe in recipes) else ""
            fits.append(replace(fit, layers=layers, places=places, keep_states=keep_states, judged_by=judge))
        return tuple(fits)


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
