"""What a study would run and what it costs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from patchboard.api.display import as_text, html_table, html_text
from patchboard.engine.in_memory import LoadedModel, at_hand
from patchboard.execution.options import Remote
from patchboard.execution.plan_numbers import costs_of, plan_json
from patchboard.measure.notes import foreseen
from patchboard.plan.model import ModelPlan
from patchboard.report.plan_tables import plan_rows, plan_title, print_plan
from patchboard.report.task_counts import task_counts
from patchboard.spec.axes import Study


@dataclass(frozen=True, repr=False)
class Plan:
    """The plan of a study: a table of its cost in a notebook and in a terminal, and the numbers as plain data.

    >>> plan = study.plan()
    >>> [model["cost"]["queries"] for model in plan.as_dict()["models"]], plan.notes
    ([9], [])
    """

    study: Study
    model_plans: Sequence[ModelPlan]
    """One for each model; several where ``model.*`` is swept."""
    engine: str = "auto"
    remote: Remote | None = None
    loaded: LoadedModel | None = None
    """The model in memory that it is for, without its weights."""
    predicted: Sequence[Mapping[str, Any]] = ()
    """Of each model, where it was asked for, the seconds that the phases of a run will take."""

    @cached_property
    def _numbers(self) -> dict[str, Any]:
        numbers = plan_json(self.model_plans, costs_of(self.model_plans, self.engine, self.remote is not None))
        for of_model, entry in zip(self.predicted, numbers["models"], strict=bool(self.predicted)):
            entry |= of_model
        if self.remote:
            from patchboard.execution.remote_checks import check_remote_study
            from patchboard.execution.remote_cost import remote_cost

            check_remote_study(self.study, self.remote.vectors)
            for plan, entry in zip(self.model_plans, numbers["models"], strict=True):
                entry["remote"] = remote_cost(plan, self.engine, self.study.digest, self.remote).as_dict()
        return numbers

    def as_dict(self) -> dict[str, Any]:
        """The content of ``plan.json``, a copy. Counts of cells, packs, passes, tokens, token-layers and FLOPs; GB;
        predicted seconds where they were asked for."""
        return copy.deepcopy(self._numbers)

    @property
    def notes(self) -> list[str]:
        """What is seen before the run already: edits that cannot move a state, say."""
        return foreseen(self.model_plans)

    def tokens(self) -> str:
        """One prompt of each task, token by token, with its named positions: what an edit's ``position`` means."""
        with at_hand(self.loaded):
            return "\n".join(token_lines(self.model_plans))

    def __repr__(self) -> str:
        return as_text(lambda console: print_plan(self.study, self._numbers, console=console))

    def _repr_html_(self) -> str:
        models = [model["model"] for model in self._numbers["models"]]
        rows = [(name, *values) for name, values in plan_rows(self._numbers).items()]
        table = html_table(("", *models), rows, plan_title(self.study), range(1, len(models) + 1))
        counted = task_counts(facts for model in self._numbers["models"] for facts in model["tasks"])
        counts = "".join(html_text([each.sentence]) + html_table(each.heads, each.rows) for each in counted)
        return table + counts + html_text(f"note: {note}" for note in self.notes)


def predictions(plans: Sequence[ModelPlan], engine: str, device: str) -> list[dict[str, Any]]:
    """Of each model the seconds that its phases will take, by running some of it. Raises ModelError."""
    from patchboard.execution.calibrate import predicted_seconds  # runs the model: a plan alone never does

    return [predicted_seconds(plan, engine, device) for plan in plans]


def token_lines(plans: Sequence[ModelPlan]) -> Iterator[str]:
    """For each group of prompts its task, what stands around the text, and one prompt with its positions."""
    from patchboard.engine.load import open_model
    from patchboard.tasks.frames import described, in_words
    from patchboard.tasks.prompts import show_tokens

    for plan in plans:
        tokenizer, _ = open_model(plan.section)
        for group in plan.groups:
            shown = next((p for p in group.prompts if not p.excluded), None)
            yield f"{group.task}, {group.shots} shots"
            for entry in described(group.prompts, tokenizer):
                yield in_words(entry)
            yield show_tokens(shown, tokenizer) if shown else f"  excluded: {group.prompts[0].excluded}"
