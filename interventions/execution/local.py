"""One model of a run, computed in this process: load, fit, decode, pack; every step leaves a part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from patchboard.engine.device import device_of
from patchboard.engine.load import files_of, load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for
from patchboard.engine.parameters import counted
from patchboard.execution.decodings import decoded_tables, keep_decoded, part_of
from patchboard.execution.options import HERE, RunState
from patchboard.execution.packs import Passes, choose
from patchboard.measure.decodability import check_k, label_codes
from patchboard.measure.nearest import voted
from patchboard.measure.notes import not_finite
from patchboard.measure.portions import Scores
from patchboard.metrics import METRICS
from patchboard.plan.model import Decoding, Group, ModelPlan
from patchboard.plan.packs import Budget
from patchboard.store.folder import RunFolder
from patchboard.store.states import StateFile
from patchboard.store.vectors import load_vectors, save_vectors
from patchboard.vectors.make import make_all


def run_locally(plan: ModelPlan, prefix: str, state: RunState) -> Iterator[tuple[Group, Scores]]:
    """The model's groups with their scores; its CD tables and its entry in the manifest are left in ``state``.

    prefix: of its parts' names where there are several models.
    """
    folder = state.folder
    state.bind(HERE)
    with state.timed("load"):
        state.bind_to_files(files_of(plan.section))
        tokenizer, _ = open_model(plan.section)
        model = load_weights(plan.section, state.options.device, plan.section.dtype)
        engine = LocalEngine(model, tokenizer, _budget(plan, prefix, model, state))
    entry: dict[str, Any] = {
        "name": plan.section.name,
        "revision": plan.section.revision,
        **plan.section.changes,
        "family": plan.facts.family,
        "layers": plan.facts.layers,
        "width": plan.facts.width,
        **counted(engine.module),
        "dtype": str(engine.dtype).removeprefix("torch."),
        "device": str(engine.device),
    }
    state.models.append(entry)
    with state.timed("fit"):
        fitted = _vectors(plan, prefix, engine, state)
    with state.timed("decodability"):
        for decoding in plan.decodings:
            _decode(decoding, part_of(prefix, decoding), engine, state)
            state.decodings += decoded_tables(folder, part_of(prefix, decoding), decoding, state.bootstrap)
    with state.timed("packs"):
        placed = engine.place(fitted)
        planned = engine.token_layers
        choice = choose(plan, engine, placed, state.options.engine)
        sampled = engine.token_layers - planned
        state.fallbacks += [choice.fallback] if choice.fallback else []
        passes = Passes(plan, folder, prefix, choice.engine, engine.budget)
        passes.compute_on(engine, placed)
        state.engines[plan.section.label] = passes.explained(choice.reason)
        results = passes.results(lambda done, of: state.options.tick("packs", done, of))
    while True:
        with state.timed("packs"):
            result = next(results, None)
        if result is None:
            break
        yield result
    # of this process: what an earlier one left in parts is not computed again
    entry["token_layers"] = {"computed": engine.token_layers - sampled, "sample": sampled}
    entry["budget"] = {**asdict(engine.budget), "halved": passes.halvings}


def _budget(plan: ModelPlan, prefix: str, model: Any, state: RunState) -> Budget:
    """What a pass may hold: as the run began, on the same kind of device, else by the memory that is free now.

    Noted in the manifest before anything is computed. Where it had to change, that is told.
    """
    device, key = device_of(model), f"{prefix}packs"
    noted = state.folder.manifest.get("budgets", {})
    begun = noted.get(key, {})
    known = Budget(begun["tokens"], begun["read_floats"]) if begun.get("device") == device.type else None
    budget = budget_for(plan.facts, device, model.dtype.itemsize, known)
    entry = {"device": device.type, **asdict(budget)}
    if begun and entry != begun:
        what = "another device" if known is None else "less free memory"
        state.fallbacks.append(f"resumed with {what}: later packs have other sizes, and may round otherwise")
    state.folder.update_manifest(budgets={**noted, key: entry})
    return budget


def _vectors(plan: ModelPlan, prefix: str, engine: LocalEngine, state: RunState) -> dict[str, Any]:
    """All operands of the plan, as the folder holds them; fitted where it does not yet.

    Read back also by who has fitted them: a tensor that lies otherwise in memory rounds otherwise in a product, and
    a resumed run is to equal an undisturbed one.
    """
    folder, name = state.folder, f"{prefix}vectors.safetensors"
    noted = folder.manifest.get("fit_fallbacks", {})
    if name not in noted or folder.unsound([name]):
        noted[name] = _fitted(plan, prefix, engine, state)
    state.fallbacks += noted[name]
    return load_vectors(folder.path / name, folder.digest)


def _fitted(plan: ModelPlan, prefix: str, engine: LocalEngine, state: RunState) -> list[str]:
    """Fit all operands into the folder; gives notes on where ``only`` could not be kept."""
    folder, name = state.folder, f"{prefix}vectors.safetensors"
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
                raise not_finite(f"states of '{plan.section.label}' at {place.site}")
            statistics[fit.id, place] = found
    operands = make_all(plan.recipes, statistics, engine.projected)
    asked = {(recipe.fit, recipe.place) for recipe in plan.recipes.values() if recipe.only == "correct"}
    notes = lacking_notes({task for key in asked for task in statistics[key].lacks_correct()}, plan, prefix)
    folder.update_manifest(fit_fallbacks={**folder.manifest.get("fit_fallbacks", {}), name: notes})
    keep_vectors(plan, name, operands, folder)
    return notes


def lacking_notes(lacking: set[str], plan: ModelPlan, prefix: str) -> list[str]:
    """Where `only: correct` found no correct prompt and all prompts were used instead."""
    if not lacking:
        return []
    model = f"{plan.section.label}: " if prefix else ""  # several models: say which
    tasks = ", ".join(sorted(lacking))
    return [f"{model}no fit prompt of {tasks} was answered correctly: vectors use all fit prompts (only: all)"]


def keep_vectors(plan: ModelPlan, name: str, operands: dict[str, Any], folder: RunFolder) -> None:
    """Write fitted vectors, stamped with the run, the model and their places."""
    places = {
        key: {"site": r.place.site, "position": r.place.position, "layer": r.layer}
        | ({"heads": [[block, start // plan.facts.head_dim] for block, start, _ in r.heads]} if r.heads else {})
        for key, r in plan.recipes.items()
    }
    model = {"model": plan.section.name, "revision": plan.section.revision, **plan.section.changes}
    stamp = {"digest": folder.digest, **model, "places": places}
    save_vectors(folder.path / name, operands, stamp)


def _decode(decoding: Decoding, name: str, engine: LocalEngine, state: RunState) -> None:
    """Search the neighbours, unless their votes are in the folder already."""
    folder, k = state.folder, decoding.section.k
    if folder.has(name):
        return
    prompts = [p for rows in decoding.prompts.values() for p in rows]
    check_k(k, sum(not p.excluded for p in prompts))
    done = 0

    def step(count: int) -> None:
        nonlocal done
        done += count
        state.options.tick("states for CD", done, len(prompts))

    score = METRICS.get("accuracy", "metrics").score
    with StateFile(folder.path / "parts") as states:

        def keep(found: torch.Tensor) -> None:
            if not found.isfinite().all():
                raise not_finite("states before the answers")
            states.add(found.numpy())

        accuracy, labels = engine.decode(decoding, score, keep, step)
        layers, shots, _ = states.shape
        codes = torch.from_numpy(label_codes(labels))
        votes = np.stack(
            [
                np.stack([voted(torch.from_numpy(states.at(i, s)), codes, k).numpy() for s in range(shots)])
                for i in range(layers)
            ]
        )
    keep_decoded(folder, name, votes, accuracy, labels)
