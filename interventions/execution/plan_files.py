"""What a run writes before anything is computed: the spec, the plan and the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patchboard.errors import SpecError
from patchboard.plan.cost import Cost, cost_of
from patchboard.plan.model import ModelPlan
from patchboard.plan.packs import Budget, local_budget
from patchboard.spec import Study, dump_yaml
from patchboard.store.folder import RunFolder
from patchboard.store.prompts import prompt_tables
from patchboard.store.schema import PROMPTS, VERSION


def write_plan(study: Study, plans: Sequence[ModelPlan], costs: Sequence[Cost], folder: RunFolder) -> None:
    folder.write_text("spec.yaml", dump_yaml(study.tree))
    folder.write_json("plan.json", plan_json(plans, costs))
    with folder.growing_table("prompts.parquet", PROMPTS) as append:
        for piece in prompt_tables(plans):
            append(piece)


def costs_of(plans: Sequence[ModelPlan], engine: str, remote: bool) -> list[Cost]:
    """engine: as ``--engine`` has it. remote: as a host runs them, whose attention goes over all pairs of tokens."""
    return [cost_of(plan, engine, Budget() if remote else local_budget(plan.facts)) for plan in plans]


def plan_json(plans: Sequence[ModelPlan], costs: Sequence[Cost]) -> dict[str, Any]:
    """plan.json: what will run and what it costs, for each model."""
    shown = {group.every for plan in plans for group in plan.groups if group.top_tokens}
    return {
        "version": VERSION,
        **({"shown_every": max(shown)} if shown else {}),
        "models": [
            {
                "model": plan.section.name,
                "revision": plan.section.revision,
                **plan.section.changes,
                "layers": plan.facts.layers,
                "width": plan.facts.width,
                "groups": [
                    {
                        "id": g.id,
                        "task": g.task,
                        "shots": g.shots,
                        "queries": len(g.prompts),
                        "cells": len(g.uses),
                        "copies": len(g.copies),
                    }
                    for g in plan.groups
                ],
                "fits": [
                    {"id": f.id, "shots": f.shots, "prompts": sum(map(len, f.prompts.values()))}
                    | ({"answers": f.answers} if f.answers != "own" else {})
                    for f in plan.fits
                ],
                "tasks": list(plan.tasks.values()),
                "special_tokens": list(plan.frames),
                "vectors": len(plan.recipes),
                "decodings": [{"id": d.id, "prompts": sum(map(len, d.prompts.values()))} for d in plan.decodings],
                **({"guardings": _guardings(plan)} if plan.guardings else {}),
                "cost": cost.as_dict(),
            }
            for plan, cost in zip(plans, costs, strict=True)
        ],
    }


def _guardings(plan: ModelPlan) -> list[dict[str, Any]]:
    return [
        {"id": g.id, "half": g.half, "prompts": sum(map(len, g.prompts.values())), "cells": len(g.cells)}
        | ({"fit": g.fit} if g.fit else {})
        for g in plan.guardings
    ]


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
