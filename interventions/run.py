"""One run from study to finished folder; every step leaves a file, and is skipped where it has."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from interventions.check import check_study
from interventions.engine.load import open_model
from interventions.errors import EngineError, RunFolderError, SpecError
from interventions.measure.decodability import decodability_table, neighbours
from interventions.measure.effects import Bootstrap, curves, effects
from interventions.measure.metrics import METRICS
from interventions.measure.outcomes import combine, outcome_table, scored_metrics, value_arrays
from interventions.measure.summary import summarise
from interventions.measure.trust import check_fired, flip_rate, noise_floor
from interventions.plan.build import build_plans
from interventions.plan.model import Decoding, Group, ModelPlan, Pack
from interventions.plan.packs import Cost, cost_of, packs_of, size_of
from interventions.spec import Study, dump_yaml
from interventions.store.folder import RunFolder, atomically, open_run
from interventions.store.prompts import prompt_table
from interventions.store.schema import DECODABILITY, VERSION
from interventions.store.vectors import load_vectors, save_vectors

Tick = Callable[[str, int, int], None]
"""Told (phase, done, of), for progress."""


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
    values: list[tuple[Group, dict[str, np.ndarray]]] = field(default_factory=list)
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
    if options.fresh:  # bad input must not cost the results that are there
        build_plans(study, open_model)
    with open_run(path, study.digest, options.fresh) as folder:
        _bind_to_data(folder, data)
        if not folder.finished:
            state = _State(folder, options)
            with state.timed("total"):
                _run(study, state)
            folder.update_manifest(status="finished", seconds=state.seconds)
        if not folder.has("report.html"):
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


def _run(study: Study, state: _State) -> None:
    folder = state.folder
    with state.timed("plan"):
        plans = build_plans(study, open_model)
        folder.write_text("spec.yaml", dump_yaml(study.tree))
        costs = [cost_of(plan, packed=state.options.engine != "rows") for plan in plans]
        folder.write_json("plan.json", plan_json(plans, costs))
        folder.write_table("prompts.parquet", prompt_table(plans))
        excluded = _excluded(plans)
    decodings: list[pl.DataFrame] = []
    bootstrap = _bootstrap(study)
    models: list[dict[str, Any]] = []
    for number, plan in enumerate(plans):
        _run_model(plan, number, len(plans), state, decodings, models, bootstrap)
    with state.timed("measure"):
        floor = noise_floor(state.values)
        state.fallbacks += check_fired(state.values, floor)
        outcomes = outcome_table(state.values)
        folder.write_table("outcomes.parquet", outcomes)
        decodability = pl.concat(decodings, how="diagonal") if decodings else pl.DataFrame(schema=DECODABILITY)
        folder.write_table("decodability.parquet", decodability)
        folder.write_table("effects.parquet", effects(outcomes, bootstrap))
        folder.write_table("curves.parquet", curves(outcomes, bootstrap))
        metric = study.points[0].spec.metrics[0]
        folder.write_json("summary.json", summarise(outcomes, decodability, metric, bootstrap))
    folder.update_manifest(
        name=study.name,
        versions=versions(),
        models=models,
        engine=state.engines,
        seeds={"prompts": sorted({p.spec.prompts.seed for p in study.points}), "bootstrap": bootstrap.seed},
        noise_floor=floor,
        flip_rate=flip_rate(state.values),
        fallbacks=state.fallbacks,
        excluded=excluded,
        tasks=[description for plan in plans for description in plan.tasks.values()],
        cost=[cost.as_dict() for cost in costs],
    )


def _bootstrap(study: Study) -> Bootstrap:
    settings = study.points[0].spec.statistics
    return Bootstrap(settings.bootstrap, settings.level, settings.seed)


def _run_model(
    plan: ModelPlan, number: int, of: int, state: _State,
    decodings: list[pl.DataFrame], models: list[dict[str, Any]], bootstrap: Bootstrap,
) -> None:  # fmt: skip
    from interventions.engine.load import load_weights
    from interventions.engine.local import LocalEngine

    prefix = f"m{number}-" if of > 1 else ""
    with state.timed("load"):
        tokenizer, _ = open_model(plan.section)
        engine = LocalEngine(load_weights(plan.section, state.options.device, plan.section.dtype), tokenizer)
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
        packed = _choose(plan, engine, placed, state)
        _packs(plan, prefix, engine, placed, packed, state)


def _vectors(plan: ModelPlan, name: str, engine: Any, state: _State) -> dict[str, Any]:
    """All operands of the plan, fitted or read back."""
    from interventions.vectors.make import make

    folder = state.folder
    if folder.has(name):
        stored = load_vectors(folder.path / name, folder.digest)
        state.fallbacks += folder.manifest.get("fit_fallbacks", [])
        return stored
    statistics: dict[Any, Any] = {}
    total = sum(len(rows) for fit in plan.fits for rows in fit.prompts.values())
    done = 0
    for fit in plan.fits:

        def step(count: int) -> None:
            nonlocal done
            done += count
            state.options.tick("fitting vectors", done, total)

        for place, found in engine.fit(fit, METRICS.get("accuracy", "metrics").score, step).items():
            statistics[fit.id, place] = found
    operands = {key: make(recipe, statistics) for key, recipe in plan.recipes.items()}
    notes = _fit_fallbacks(plan, statistics)
    state.fallbacks += notes
    folder.update_manifest(fit_fallbacks=[*folder.manifest.get("fit_fallbacks", []), *notes])
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

        states, accuracy, labels = engine.decode(decoding, METRICS.get("accuracy", "metrics").score, step)
        layers, shots = states.shape[1:3]
        found = np.stack(
            [
                [neighbours(states[:, i, s].double().numpy(), decoding.section.k) for s in range(shots)]
                for i in range(layers)
            ]
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


def _choose(plan: ModelPlan, engine: Any, operands: dict[str, Any], state: _State) -> bool:
    """Whether to pack: as asked, or by holding some packed cells against whole rows on the first pack."""
    asked = state.options.engine
    if asked == "rows" or not plan.groups:
        state.engines[plan.section.name] = "rows: asked for"
        return False
    from interventions.engine.agree import TOLERANCE, largest_difference

    tolerance = TOLERANCE[str(engine.dtype)]
    difference = largest_difference(engine, plan.groups[0], operands, METRICS.get("logprob", "metrics").score)
    if difference <= tolerance:
        state.engines[plan.section.name] = f"packed: equals rows within {difference:.1e} nats on a sample of cells"
        return True
    note = f"packed and rows differ by {difference:.1e} nats on a sample of cells, more than {tolerance:.0e}"
    if asked == "packed":
        raise EngineError("--engine", note, "use --engine auto or rows")
    state.fallbacks.append(f"{note}: all cells were run as rows")
    state.engines[plan.section.name] = "rows: packed was not exact enough"
    return False


def _packs(plan: ModelPlan, prefix: str, engine: Any, operands: dict[str, Any], packed: bool, state: _State) -> None:
    style = "p" if packed else "r"
    todo = [(group, list(packs_of(group, size_of(group), plan.facts.vocab, packed))) for group in plan.groups]
    total, done = sum(len(packs) for _, packs in todo), 0
    for group, packs in todo:
        tables = []
        for pack in packs:
            tables.append(
                _pack(group, pack, f"parts/{prefix}{style}{pack.id}.parquet", engine, operands, packed, state)
            )
            done += 1
            state.options.tick("packs", done, total)
        state.values.append((group, value_arrays(group, pl.concat(tables))))


def _pack(
    group: Group, pack: Pack, name: str, engine: Any, operands: dict[str, Any], packed: bool, state: _State
) -> pl.DataFrame:
    if not state.folder.has(name):
        scorers = {m: METRICS.get(m, "metrics").score for m in scored_metrics(group.metrics)}
        found = engine.score_pack(group, pack, packed, operands, scorers)
        state.folder.write_table(name, combine(found.prompt, found.copy, found.scores, found.moved))
    return state.folder.read_table(name)


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
