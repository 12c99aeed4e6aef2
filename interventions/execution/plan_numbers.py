"""What plans cost, and plan.json: without what writes files, for who only plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from patchboard.plan.cost import Cost, cost_of
from patchboard.plan.model import ModelPlan
from patchboard.plan.packs import Budget, default_budget
from patchboard.store.version import VERSION


def costs_of(plans: Sequence[ModelPlan], engine: str, remote: bool) -> list[Cost]:
    """engine: as ``--engine`` has it. remote: as a host runs them, whose attention goes over all pairs of tokens."""
    return [cost_of(plan, engine, Budget() if remote else default_budget(plan.facts)) for plan in plans]


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
