"""One model of a run, computed in this process: load, fit, decode, pack; every step leaves a part."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from patchboard.engine.device import device_of
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for
from patchboard.engine.parameters import counted
from patchboard.execution.choose_engine import choose_engine
from patchboard.execution.decodings import votes_file, write_votes
from patchboard.execution.fitting import fit_operands
from patchboard.execution.identity import HERE, bind_to_place, check_loaded
from patchboard.execution.model_run import Measure, ModelResult, ModelRun, model_entry
from patchboard.execution.pack_parts import PackParts
from patchboard.execution.run_packs import PackRunner
from patchboard.measure.decodability import check_k, label_codes
from patchboard.measure.nearest import voted
from patchboard.measure.notes import not_finite
from patchboard.plan.model import Decoding
from patchboard.plan.packs import Budget
from patchboard.store.states import StateFile


def compute_locally(run: ModelRun, measure: Measure) -> ModelResult:
    """Compute all that the model's plan asks for; ``measure`` is called with each group as it is done."""
    plan, timed = run.plan, run.progress.timed
    bind_to_place(run.folder, HERE)
    with timed("load"):
        tokenizer, _ = open_model(plan.section)
        model = load_weights(plan.section, run.options.device, plan.section.dtype)
        check_loaded(run.folder, plan.section, model.config)
        budget, notes = _budget(run, model)
        engine = LocalEngine(model, tokenizer, budget)
    with timed("fit"):
        operands, fit_notes = fit_operands(run, engine)
    with timed("decodability"):
        for decoding in plan.decodings:
            _search_neighbours(run, decoding, engine)
    with timed("packs"):
        placed = engine.place(operands)
        before = engine.token_layers
        choice = choose_engine(plan, engine, placed, run.options.engine)
        sampled = engine.token_layers - before
        parts = PackParts(plan, run.folder, run.prefix, choice.engine, budget)
        step = run.progress.counter("packs", sum(map(len, parts.packs.values())))
        packs = PackRunner(parts, engine, placed, step)
    for group in plan.groups:
        with timed("packs"):
            scores = packs.compute(group)
        measure(group, scores)
    entry = model_entry(
        plan,
        counted(model),
        str(engine.dtype),
        str(engine.device),
        # of this process: what an earlier one left in parts is not computed again
        token_layers={"computed": engine.token_layers - sampled, "sample": sampled},
        budget={**asdict(budget), "halved": packs.halvings},
    )
    fallback = [choice.fallback] if choice.fallback else []
    return ModelResult(entry, parts.explain(choice.reason), [*notes, *fit_notes, *fallback])


def _budget(run: ModelRun, model: PreTrainedModel) -> tuple[Budget, list[str]]:
    """What a pass may hold: as the run began, on the same kind of device, else by the memory that is free now.

    Noted in the manifest before anything is computed. Also gives notes: where it had to change, that is told.
    """
    device, key = device_of(model), f"{run.prefix}packs"
    budgets = run.folder.manifest.get("budgets", {})
    begun = budgets.get(key, {})
    known = Budget(begun["tokens"], begun["read_floats"]) if begun.get("device") == device.type else None
    budget = budget_for(run.plan.facts, device, model.dtype.itemsize, known)
    entry = {"device": device.type, **asdict(budget)}
    run.folder.update_manifest(budgets={**budgets, key: entry})
    if not begun or entry == begun:
        return budget, []
    what = "another device" if known is None else "less free memory"
    return budget, [f"resumed with {what}: later packs have other sizes, and may round otherwise"]


def _search_neighbours(run: ModelRun, decoding: Decoding, engine: LocalEngine) -> None:
    """Search the neighbours, unless their votes are in the folder already."""
    name, k = votes_file(run, decoding), decoding.section.k
    if run.folder.has(name):
        return
    prompts = [prompt for rows in decoding.prompts.values() for prompt in rows]
    check_k(k, sum(not prompt.excluded for prompt in prompts))
    with StateFile(run.folder.path / "parts") as states:

        def keep(of_some: Tensor) -> None:
            if not of_some.isfinite().all():
                raise not_finite("states before the answers")
            states.add(of_some.numpy())

        step = run.progress.counter("states for CD", len(prompts))
        accuracy, labels = engine.decode(decoding, keep, step)
        layers, shots, _ = states.shape
        codes = torch.from_numpy(label_codes(labels))
        votes = np.stack(
            [
                np.stack([voted(torch.from_numpy(states.at(i, s)), codes, k).numpy() for s in range(shots)])
                for i in range(layers)
            ]
        )
    write_votes(run.folder, name, votes, accuracy, labels)
