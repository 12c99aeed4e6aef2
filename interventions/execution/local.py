"""One model of a run, computed in this process: load, fit, decode, pack; every step leaves a part."""

from __future__ import annotations

from dataclasses import asdict, replace

from transformers import PreTrainedTokenizerBase

from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.engine.parameters import counted
from patchboard.engine.twin import Blueprint, blueprint_of
from patchboard.execution.choose_engine import choose_engine
from patchboard.execution.fitting import fit_operands
from patchboard.execution.guardedness import probe_guarded
from patchboard.execution.identity import HERE, bind_to_place, check_loaded
from patchboard.execution.local_budget import budget_of
from patchboard.execution.local_decodings import search_neighbours, search_twins
from patchboard.execution.model_run import Measure, ModelResult, ModelRun, model_entry
from patchboard.execution.pack_parts import PackParts
from patchboard.execution.run_packs import PackRunner
from patchboard.execution.screen import screened_run
from patchboard.execution.texts import compute_texts


def compute_locally(run: ModelRun, measure: Measure) -> ModelResult:
    """Compute all that the model's plan asks for; ``measure`` is called with each group as it is done."""
    bind_to_place(run.folder, HERE)
    result, blueprint, tokenizer = _compute(run, measure)
    seeds = sorted({decoding.seed for decoding in run.plan.decodings if decoding.section.twin})
    if not seeds:
        return result
    with run.progress.timed("twin"):  # the model is gone by now, unless it is the caller's: two may not fit
        notes = search_twins(run, blueprint, tokenizer)
    return replace(result, entry=result.entry | {"twin": {"seeds": seeds}}, notes=[*result.notes, *notes])


def _compute(run: ModelRun, measure: Measure) -> tuple[ModelResult, Blueprint, PreTrainedTokenizerBase]:
    """All that the model itself is needed for, and what an untrained twin of it is made of."""
    plan, timed = run.plan, run.progress.timed
    with timed("load"):
        tokenizer, _ = open_model(plan.section)
        model = load_weights(plan.section, run.options.device, plan.section.dtype)
        check_loaded(run.folder, plan.section, model.config)
        budget, notes = budget_of(run, model)
        engine = LocalEngine(model, tokenizer, budget)
    with timed("fit"):
        operands, fit_notes = fit_operands(run, engine)
    with timed("decodability"):
        for decoding in plan.decodings:
            search_neighbours(run, decoding, engine)
    with timed("screen"):
        plan, prefix = screened_run(run, engine)
    with timed("packs"):
        placed = engine.place(operands)
        choice = choose_engine(plan, engine, placed, run.options.engine)
        parts = PackParts(plan, run.folder, prefix, choice.engine, budget)
        step = run.progress.counter("packs", sum(map(len, parts.packs.values())))
        packs = PackRunner(parts, engine, placed, step)
    for group in plan.groups:
        with timed("packs"):
            scores = packs.compute(group)
        measure(group, scores)
    with timed("texts"):
        compute_texts(run, plan, prefix, engine, placed, tokenizer)
    with timed("guardedness"):
        guard_notes = probe_guarded(run, engine, choice.engine, placed)
    entry = model_entry(
        plan,
        counted(model),
        str(engine.dtype),
        str(engine.device),
        # of this process: what an earlier one left in parts is not computed again
        token_layers={"computed": engine.token_layers - engine.sampled, "sample": engine.sampled},
        budget={**asdict(budget), "halved": packs.halving.times},
        **({"embedding_sd": float(engine.noise_unit())} if plan.has_noise else {}),
    )
    fallback = [choice.fallback] if choice.fallback else []
    result = ModelResult(entry, parts.explain(choice.reason), [*notes, *fit_notes, *fallback, *guard_notes])
    return result, blueprint_of(model), tokenizer
