"""One run from study to finished folder; every step leaves a file, and is skipped where it has."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from interventions.check import check_study
from interventions.engine.load import open_model
from interventions.errors import RunFolderError, SpecError
from interventions.measure.decodability import decodability_table, neighbours
from interventions.measure.metrics import METRICS
from interventions.measure.notes import capped, not_finite
from interventions.measure.outcomes import outcome_rows, outcome_schema
from interventions.measure.portions import Scores, portions
from interventions.measure.statistics import Bootstrap
from interventions.measure.trust import Checks
from interventions.plan.build import build_plans
from interventions.plan.cost import Cost, cost_of
from interventions.plan.model import Decoding, Group, ModelPlan
from interventions.plan.packs import Budget
from interventions.results import bootstrap_of, mend, write_results
from interventions.spec import Study, dump_yaml
from interventions.store.folder import RunFolder, atomically, open_run
from interventions.store.prompts import prompt_tables
from interventions.store.schema import DECODABILITY, PROMPTS, VERSION
from interventions.store.states import StateFile
from interventions.store.vectors import load_vectors, save_vectors

Tick = Callable[[str, int, int], None]
"""Told (phase, done, of), for progress."""
Take = Callable[[Group, Scores], None]
"""Given each finished group with its scores."""


@dataclass(frozen=True)
class Options:
    """How to run: nothing here enters the digest or may change a number beyond rounding."""

    out: Path | None = None
    fresh: bool = False
    engine: str = "auto"
    device: str = "auto"
    tick: Tick = lambda phase, done, of: None


@dataclass
class _State:
    """What a run collects on its way."""

    folder: RunFolder
    options: Options
    seconds: dict[str, float] = field(default_factory=dict)
    fallbacks: list[str] = field(default_factory=list)
    checks: Checks = field(default_factory=Checks)
    engines: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - start, 3)


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
    # with --fresh before the folder is cleared: bad input must not cost the results that are there
    plans = build_plans(study, open_model) if options.fresh else None
    with open_run(path, study.digest, options.fresh) as folder:
        _bind_to_data(folder, data)
        if folder.finished:
            mend(study, folder, lambda: _write_plan(study, build_plans(study, open_model), folder, options))
        else:
            state = _State(folder, options)
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
    from interventions.report import write_report

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


def _run(study: Study, state: _State, plans: Sequence[ModelPlan] | None) -> None:
    """plans: the study's, where they have been made already."""
    folder = state.folder
    with state.timed("plan"):
        plans = plans or build_plans(study, open_model)
        costs = _write_plan(study, plans, folder, state.options)
        excluded = _excluded(plans)
        state.fallbacks += capped(plans)
    decodings: list[pl.DataFrame] = []
    bootstrap = bootstrap_of(study)
    models: list[dict[str, Any]] = []
    schema = outcome_schema(group for plan in plans for group in plan.groups)
    with folder.growing_table("outcomes.parquet", schema) as append:

        def take(group: Group, scores: Scores) -> None:
            with state.timed("measure"):
                for portion in portions(group, scores):
                    state.checks.update(portion)
                    for piece in outcome_rows(portion, schema):
                        append(piece)

        for number, plan in enumerate(plans):
            _run_model(plan, number, len(plans), state, decodings, models, bootstrap, take)
        state.fallbacks += state.checks.notes()
    with state.timed("measure"):
        decodability = pl.concat(decodings, how="diagonal") if decodings else pl.DataFrame(schema=DECODABILITY)
        folder.write_table("decodability.parquet", decodability)
        write_results(study, folder)
    folder.update_manifest(
        name=study.name,
        versions=versions(),
        models=models,
        engine=state.engines,
        seeds={"prompts": sorted({p.spec.prompts.seed for p in study.points}), "bootstrap": bootstrap.seed},
        noise_floor=state.checks.noise_floor.floor,
        flip_rate=state.checks.flips.rate,
        fallbacks=state.fallbacks,
        excluded=excluded,
        tasks=[description for plan in plans for description in plan.tasks.values()],
        cost=[cost.as_dict() for cost in costs],
    )


def _run_model(
    plan: ModelPlan, number: int, of: int, state: _State,
    decodings: list[pl.DataFrame], models: list[dict[str, Any]], bootstrap: Bootstrap, take: Take,
) -> None:  # fmt: skip
    from interventions.engine.device import device_of
    from interventions.engine.load import load_weights
    from interventions.engine.local import LocalEngine
    from interventions.engine.memory import budget_for
    from interventions.passes import Passes, choose

    folder = state.folder
    prefix = f"m{number}-" if of > 1 else ""
    with state.timed("load"):
        tokenizer, _ = open_model(plan.section)
        model = load_weights(plan.section, state.options.device, plan.section.dtype)
        engine = LocalEngine(model, tokenizer, budget_for(plan.facts, device_of(model), model.dtype.itemsize))
    models.append(
        {
            "name": plan.section.name,
            "revision": plan.section.revision,
            "family": plan.facts.family,
            "layers": plan.facts.layers,
            "width": plan.facts.width,
            "parameters": sum(p.numel() for p in engine.module.parameters()),
            "dtype": str(engine.dtype).removeprefix("torch."),
            "device": str(engine.device),
        }
    )
    with state.timed("fit"):
        fitted = _vectors(plan, f"{prefix}vectors.safetensors" if prefix else "vectors.safetensors", engine, state)
    with state.timed("decodability"):
        for decoding in plan.decodings:
            decodings += _decoded(decoding, prefix, engine, state, bootstrap)
    with state.timed("packs"):
        placed = engine.place(fitted)
        planned = engine.token_layers
        choice = choose(plan, engine, placed, state.options.engine)
        sampled = engine.token_layers - planned
        state.fallbacks += [choice.fallback] if choice.fallback else []
        passes = Passes(plan, engine, placed, folder, prefix, choice.engine)
        state.engines[plan.section.name] = passes.explained(choice.reason)
        results = passes.results(lambda done, of: state.options.tick("packs", done, of))
    while True:
        with state.timed("packs"):
            result = next(results, None)
        if result is None:
            break
        take(*result)
    # of this process: what an earlier one left in parts is not computed again
    models[-1]["token_layers"] = {"computed": engine.token_layers - sampled, "sample": sampled}
    models[-1]["budget"] = {**asdict(engine.budget), "halved": passes.halvings}


def _vectors(plan: ModelPlan, name: str, engine: Any, state: _State) -> dict[str, Any]:
    """All operands of the plan, fitted or read back."""
    from interventions.vectors.make import make

    folder = state.folder
    noted = folder.manifest.get("fit_fallbacks", {})
    if name in noted and not folder.unsound([name]):
        state.fallbacks += noted[name]
        return load_vectors(folder.path / name, folder.digest)
    statistics: dict[Any, Any] = {}
    total = sum(len(rows) for fit in plan.fits for rows in fit.prompts.values())
    done = 0
    for fit in plan.fits:

        def step(count: int) -> None:
            nonlocal done
            done += count
            state.options.tick("fitting vectors", done, total)

        for place, found in engine.fit(fit, METRICS.get("accuracy", "metrics").score, step).items():
            if not found.is_finite():
                raise not_finite(f"states of '{plan.section.name}' at {place.site}")
            statistics[fit.id, place] = found
    operands = {key: make(recipe, statistics) for key, recipe in plan.recipes.items()}
    notes = _fit_fallbacks(plan, statistics)
    if name != "vectors.safetensors":  # several models: say which
        notes = [f"{plan.section.name}: {note}" for note in notes]
    state.fallbacks += notes
    folder.update_manifest(fit_fallbacks={**noted, name: notes})
    places = {
        key: {"site": r.place.site, "position": r.place.position, "layer": r.layer} for key, r in plan.recipes.items()
    }
    stamp = {"digest": folder.digest, "model": plan.section.name, "revision": plan.section.revision, "places": places}
    save_vectors(folder.path / name, operands, stamp)
    return operands


def _fit_fallbacks(plan: ModelPlan, statistics: dict[Any, Any]) -> list[str]:
    """Where `only: correct` found no correct prompt and all prompts were used instead."""
    asked = {(recipe.fit, recipe.place) for recipe in plan.recipes.values() if recipe.only == "correct"}
    lacking = sorted({task for key in asked for task in statistics[key].lacks_correct()})
    if not lacking:
        return []
    return [f"no fit prompt of {', '.join(lacking)} was answered correctly: vectors use all fit prompts (only: all)"]


def _decoded(decoding: Decoding, prefix: str, engine: Any, state: _State, bootstrap: Bootstrap) -> list[pl.DataFrame]:
    """The decoding's table, once for each point that shares it."""
    folder, name = state.folder, f"parts/{prefix}{decoding.id}.npz"
    if not folder.has(name):
        total = sum(len(rows) for rows in decoding.prompts.values())
        done = 0

        def step(count: int) -> None:
            nonlocal done
            done += count
            state.options.tick("states for CD", done, total)

        score = METRICS.get("accuracy", "metrics").score
        with StateFile(folder.path / "parts") as states:

            def keep(found: Any) -> None:
                if not found.isfinite().all():
                    raise not_finite("states before the answers")
                states.add(found.numpy())

            accuracy, labels = engine.decode(decoding, score, keep, step)
            layers, shots, _ = states.shape
            found = np.stack(
                [[neighbours(states.at(i, s), decoding.section.k) for s in range(shots)] for i in range(layers)]
            )
        buffer = io.BytesIO()
        np.savez_compressed(buffer, found=found, accuracy=accuracy, labels=np.array(labels))
        atomically(folder.path / name, lambda path: path.write_bytes(buffer.getvalue()))
    with np.load(folder.path / name) as stored:
        table = decodability_table(
            stored["found"], stored["labels"].tolist(), stored["accuracy"], decoding.section.shots, bootstrap
        )
    return [
        table.with_columns(
            pl.lit(value if isinstance(value, (bool, int, float, str)) else str(value)).alias(path)
            for path, value in swept
        )
        for swept in decoding.swept
    ]


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
