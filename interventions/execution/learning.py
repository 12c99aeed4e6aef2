"""The stage in which vectors are learned: each training once, kept among the parts as soon as it is done."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import torch

from patchboard.engine.learning import frozen
from patchboard.engine.local import LocalEngine
from patchboard.engine.teaching import Look, Pupil, Teacher
from patchboard.execution.choose_engine import choose_engine
from patchboard.execution.model_run import ModelRun
from patchboard.metrics import METRICS
from patchboard.plan.learning import Training
from patchboard.plan.learning_cost import learning_budget
from patchboard.plan.packs import packs_of
from patchboard.store.folder import RunFolder
from patchboard.store.schema import LEARNED, LEARNED_FILE
from patchboard.store.vectors import load_vectors, save_vectors
from patchboard.vectors.base import Given, Place, Recipe
from patchboard.vectors.files.layout import parts_of
from patchboard.vectors.fitters import learned_kind
from patchboard.vectors.learned import Learner, operand_of
from patchboard.vectors.statistics import PlaceStatistics

_OF_TRAINING = re.compile(r"(m\d+-)?learned\d+\.parquet")  # no pack's, whose task may be called so
Statistics = Mapping[tuple[str, Place], PlaceStatistics]


def with_learned(run: ModelRun, engine: LocalEngine, statistics: Statistics) -> dict[str, Recipe]:
    """The plan's recipes, those of vectors that are learned with what was learned. Tells of it in learned.parquet."""
    plan, made = run.plan, dict[str, Given]()
    if not plan.trainings:
        return dict(plan.recipes)
    step = run.progress.counter("learning vectors", sum(training.settings.steps for training in plan.trainings))
    engine_choice = ""
    with frozen(engine.module):
        for training in plan.trainings:
            name = f"parts/{run.prefix}{training.id}"
            if not (run.folder.has(f"{name}.parquet") and run.folder.has(f"{name}.safetensors")):
                learners = [_learner(plan.recipes[keys[0]], training, statistics) for keys in training.keys]
                engine_choice = engine_choice or _way(run, engine, training, learners)
                pupils = _teacher(run, engine, training, learners, engine_choice).run(step)
                run.folder.write_table(f"{name}.parquet", _table(run, training, pupils))
                operands = {keys[0]: operand_of(p.kept) for keys, p in zip(training.keys, pupils, strict=True)}
                save_vectors(run.folder.path / f"{name}.safetensors", operands, {"digest": run.folder.digest})
            else:
                step(training.settings.steps)
            found = load_vectors(run.folder.path / f"{name}.safetensors", run.folder.digest)
            for first, *others in training.keys:
                given = Given("", first, "", "", parts_of(found[first]))
                made |= dict.fromkeys((first, *others), given)
    _write_all(run.folder)
    return {
        key: replace(recipe, given=made[recipe.counterpart_of or key]) if learned_kind(recipe.kind) else recipe
        for key, recipe in plan.recipes.items()
    }


def _learner(recipe: Recipe, training: Training, statistics: Statistics) -> Learner:
    """At its beginning, which is told by the seed and the place: not by the task, nor by the intervention."""
    mean = statistics[recipe.fit, recipe.place].means(recipe.plus, recipe.layer, "all").mean(0)
    mean = mean[slice(*(recipe.columns or (None,)))]
    (edit,) = training.group.copies[1 + [keys[0] for keys in training.keys].index(recipe.key)].edits
    if edit.neurons:
        mean = mean[list(edit.neurons)]
    told = training.settings.seed, edit.site, edit.layer, edit.head, edit.position
    generator = torch.Generator().manual_seed(zlib.crc32("/".join(map(str, told)).encode()))
    kind = learned_kind(recipe.kind)
    assert kind is not None
    return kind.learner()(recipe, mean, generator)


def _way(run: ModelRun, engine: LocalEngine, training: Training, learners: Sequence[Learner]) -> str:
    """How copies are computed, by a sample of the first training's: as ``packs_of`` takes it."""
    first = {keys[0]: operand_of(learner.finished()) for keys, learner in zip(training.keys, learners, strict=True)}
    plan = replace(run.plan, groups=(training.group,))
    return choose_engine(plan, engine, engine.place(first), run.options.engine).engine


def _teacher(run: ModelRun, engine: LocalEngine, training: Training, learners: Sequence[Learner], way: str) -> Teacher:
    facts = run.plan.facts
    budget = learning_budget(training, facts, engine.budget)
    scorers = {name: METRICS.get(name, "metrics").score for name in ("logprob", "accuracy")}
    return Teacher(
        engine, training, learners, lambda group, some: list(packs_of(group, facts, way, some)), budget, scorers
    )


def _table(run: ModelRun, training: Training, pupils: Sequence[Pupil]) -> pl.DataFrame:
    """store.schema.LEARNED, a row a vector and look."""
    rows: list[dict[str, Any]] = []
    for keys, copy, pupil in zip(training.keys, training.group.copies[1:], pupils, strict=True):
        for key in keys:
            label, task, _ = key.rsplit("/", 2)
            intervention, _, setting = label.partition("@")
            (edit,) = copy.edits
            told = {
                "model": run.name, "task": training.group.task, "intervention": intervention, "setting": setting,
                "vector_task": task, "vector": key, "source": training.source, "site": edit.site, "layer": edit.layer,
                "head": edit.head, "pairs": len(training.seen), "held_out": len(training.held_out),
            }  # fmt: skip
            rows += [told | _values(look) for look in pupil.all_looks()]
    return pl.DataFrame(rows, schema=LEARNED)


def _values(look: Look) -> dict[str, Any]:
    return look._asdict() | {"rank": look.rank or None}


def _write_all(folder: RunFolder) -> None:
    """learned.parquet: of all models whose vectors are learned until now."""
    names = (file.name for file in (folder.path / "parts").iterdir())
    tables = sorted(filter(_OF_TRAINING.fullmatch, names), key=lambda name: (len(name), name))
    folder.write_table(LEARNED_FILE, pl.concat([folder.read_table(f"parts/{name}") for name in tables]))
