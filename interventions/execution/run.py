"""One run from study to finished folder; every step leaves a file, and is skipped where it has."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from patchboard.engine.load import open_model
from patchboard.engine.trust import check_same_trust, code_is_trusted, code_run
from patchboard.errors import RunFolderError, SpecError
from patchboard.execution.options import Options, RunState
from patchboard.execution.results import bootstrap_of, mend, write_results
from patchboard.measure.notes import foreseen
from patchboard.measure.outcomes import outcome_rows, outcome_schema
from patchboard.measure.portions import Scores, portions
from patchboard.plan.build import build_plans
from patchboard.plan.cost import Cost, cost_of
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.packs import Budget
from patchboard.plan.validate import check_study
from patchboard.spec import Study, dump_yaml
from patchboard.store.folder import RunFolder, open_run
from patchboard.store.prompts import prompt_tables
from patchboard.store.schema import DECODABILITY, PROMPTS, VERSION


def plan_study(study: Study) -> list[ModelPlan]:
    """Check and plan, without weights. Raises PatchboardError."""
    check_study(study)
    return build_plans(study, open_model)


def folder_of(study: Study, out: Path | None) -> Path:
    return out or Path("runs") / f"{study.name}-{study.digest[:8]}"


def run_study(study: Study, options: Options) -> Path:
    """Run, resume or just find the study's folder; returns it. Raises PatchboardError."""
    data = check_study(study)
    path = folder_of(study, options.out)
    if options.remote is not None:
        from patchboard.execution.remote import ask_first

        ask_first(study, path, options)
    # with --fresh before the folder is cleared: bad input must not cost the results that are there
    plans = build_plans(study, open_model) if options.fresh else None
    with open_run(path, study.digest, options.fresh) as folder:
        check_same_trust(folder.manifest, path)
        if "trust_remote_code" not in folder.manifest:
            folder.update_manifest(trust_remote_code=code_is_trusted())
        _bind_to_data(folder, data)
        if folder.finished:
            mend(study, folder, lambda: _write_plan(study, build_plans(study, open_model), folder, options))
        else:
            state = RunState(folder, options, bootstrap_of(study))
            with state.timed("total"):
                _run(study, state, plans)
            folder.update_manifest(status="finished", seconds=state.seconds)
        if folder.unsound(["report.html"]):
            _report(folder)
        folder.drop_parts()
    return path


def _bind_to_data(folder: RunFolder, data: dict[str, str]) -> None:
    """Note the data files' contents in the manifest. Raises RunFolderError where they have changed since."""
    known = folder.manifest.get("data", data)
    changed = sorted(file for file in {*known, *data} if known.get(file) != data.get(file))
    if changed:
        raise RunFolderError(
            str(folder.path),
            f"was run on other contents of {changed[0]}",
            "use --fresh to start over, or another --out",
        )
    if "data" not in folder.manifest:
        folder.update_manifest(data=data)


def _report(folder: RunFolder) -> None:
    from patchboard.report import write_report

    write_report(folder.path)


def _write_plan(study: Study, plans: Sequence[ModelPlan], folder: RunFolder, options: Options) -> list[Cost]:
    """Write the spec, the plan and the prompts."""
    costs = [cost_of(plan, options.engine, Budget()) for plan in plans]
    folder.write_text("spec.yaml", dump_yaml(study.tree))
    folder.write_json("plan.json", plan_json(plans, costs))
    with folder.growing_table("prompts.parquet", PROMPTS) as append:
        for piece in prompt_tables(plans):
            append(piece)
    return costs


def _run(study: Study, state: RunState, plans: Sequence[ModelPlan] | None) -> None:
    """plans: the study's, where they have been made already."""
    folder = state.folder
    with state.timed("plan"):
        plans = plans or build_plans(study, open_model)
        costs = _write_plan(study, plans, folder, state.options)
        excluded = _excluded(plans)
        state.fallbacks += foreseen(plans)
    schema = outcome_schema(group for plan in plans for group in plan.groups)
    with folder.growing_table("outcomes.parquet", schema) as append:

        def take(group: Group, scores: Scores) -> None:
            with state.timed("measure"):
                for portion in portions(group, scores):
                    state.checks.update(portion)
                    for piece in outcome_rows(portion, schema):
                        append(piece)

        for number, plan in enumerate(plans):
            for group, scores in _computed(plan, f"m{number}-" if len(plans) > 1 else "", state):
                take(group, scores)
        state.fallbacks += state.checks.notes()
    with state.timed("measure"):
        tables = state.decodings
        decodability = pl.concat(tables, how="diagonal_relaxed") if tables else pl.DataFrame(schema=DECODABILITY)
        folder.write_table("decodability.parquet", decodability)
        write_results(study, folder)
    folder.update_manifest(
        name=study.name,
        **({"code": code_run()} if code_is_trusted() else {}),
        versions=versions(),
        models=state.models,
        engine=state.engines,
        seeds={"prompts": sorted({p.spec.prompts.seed for p in study.points}), "bootstrap": state.bootstrap.seed},
        noise_floor=state.checks.noise_floor.floor,
        flip_rate=state.checks.flips.rate,
        fallbacks=state.fallbacks,
        excluded=excluded,
        tasks=[description for plan in plans for description in plan.tasks.values()],
        special_tokens=[{"model": plan.section.name, **entry} for plan in plans for entry in plan.frames],
        cost=[cost.as_dict() for cost in costs],
    )


def _computed(plan: ModelPlan, prefix: str, state: RunState) -> Iterator[tuple[Group, Scores]]:
    """The model's groups with their scores, here or on a host."""
    if state.options.remote is None:
        from patchboard.execution.local import run_locally as compute
    else:
        from patchboard.execution.remote import run_remotely as compute
    return compute(plan, prefix, state)


def _excluded(plans: Sequence[ModelPlan]) -> dict[str, dict[str, int]]:
    """Task -> reason -> evaluated prompts left out. Raises SpecError where a task has none left."""
    out: dict[str, dict[str, int]] = {}
    for plan in plans:
        for group in plan.groups:
            reasons = [p.excluded for p in group.prompts if p.excluded]
            if len(reasons) == len(group.prompts):
                raise SpecError(
                    "tasks",
                    f"no prompt of {group.task} can be used: {reasons[0]}",
                    "change the task, template or model",
                )
            for reason in reasons:
                out.setdefault(group.task, {})[reason] = out.get(group.task, {}).get(reason, 0) + 1
    return out


def plan_json(plans: Sequence[ModelPlan], costs: Sequence[Cost]) -> dict[str, Any]:
    """plan.json: what will run and what it costs, for each model."""
    return {
        "version": VERSION,
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
                    {"id": f.id, "shots": f.shots, "prompts": sum(map(len, f.prompts.values()))} for f in plan.fits
                ],
                "tasks": list(plan.tasks.values()),
                "special_tokens": list(plan.frames),
                "vectors": len(plan.recipes),
                "decodings": [{"id": d.id, "prompts": sum(map(len, d.prompts.values()))} for d in plan.decodings],
                "cost": cost.as_dict(),
            }
            for plan, cost in zip(plans, costs, strict=True)
        ],
    }


def versions() -> dict[str, str]:
    names = ("patchboard", "torch", "transformers", "nnsight", "numpy", "scikit-learn")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}
