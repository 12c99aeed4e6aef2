"""What a run writes before anything is computed: the spec, the plan and the prompts."""

from __future__ import annotations

from collections.abc import Sequence

from patchboard.errors import SpecError
from patchboard.execution.plan_numbers import plan_json
from patchboard.plan.cost import Cost
from patchboard.plan.model import ModelPlan
from patchboard.spec import Study, dump_yaml
from patchboard.store.folder import RunFolder
from patchboard.store.prompts import prompt_tables
from patchboard.store.schema import PROMPTS


def write_plan(study: Study, plans: Sequence[ModelPlan], costs: Sequence[Cost], folder: RunFolder) -> None:
    folder.write_text("spec.yaml", dump_yaml(study.tree))
    folder.write_json("plan.json", plan_json(plans, costs))
    with folder.growing_table("prompts.parquet", PROMPTS) as append:
        for piece in prompt_tables(plans):
            append(piece)


def excluded_prompts(plans: Sequence[ModelPlan]) -> dict[str, dict[str, int]]:
    """Task -> reason -> evaluated prompts left out. Raises SpecError where a task has none left."""
    excluded: dict[str, dict[str, int]] = {}
    for plan in plans:
        for group in plan.groups:
            reasons = [p.excluded for p in group.prompts if p.excluded]
            if len(reasons) == len(group.prompts):
                raise SpecError(
                    "tasks",
                    f"no prompt of {group.task} can be used: {reasons[0]}",
                    "change the task, template or model",
                )
            of_task = excluded.setdefault(group.task, {}) if reasons else {}
            for reason in reasons:
                of_task[reason] = of_task.get(reason, 0) + 1
    return excluded
