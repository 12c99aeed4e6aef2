"""One model of a run, computed in this process: load, fit, decode, pack; every step leaves a part."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from patchboard.engine.device import slow_dtype
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.engine.parameters import counted
from patchboard.engine.twin import Blueprint, blueprint_of
from patchboard.execution.choose_engine import choose_engine
from patchboard.execution.claims import Tally
from patchboard.execution.crew import Crew
from patchboard.execution.fitting import fit_operands
from patchboard.execution.guardedness import all_probed, note_points, probe_guarded
from patchboard.execution.identity import HERE, bind_to_place, check_loaded
from patchboard.execution.local_budget import budget_of
from patchboard.execution.local_decodings import all_searched, search_all, search_twins
from patchboard.execution.model_run import Measure, ModelResult, ModelRun, model_entry
from patchboard.execution.pack_parts import PackParts
from patchboard.execution.placement import Placement, placement_of
from patchboard.execution.run_packs import PackRunner
from patchboard.execution.screen import choose, chosen_plan, estimate, is_estimated
from patchboard.execution.texts import TextParts
from patchboard.plan.model import Group


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
        placement = placement_of(plan.section, plan.facts, run.options)
        tokenizer, _ = open_model(plan.section)
        model = load_weights(plan.section, placement.own, plan.section.dtype)
        check_loaded(run.folder, plan.section, model.config)
        budget, notes = budget_of(run, model, placement=placement)
        engine = LocalEngine(model, tokenizer, budget)
    with Crew(run, placement, budget) as crew:
        with timed("fit"):
            operands, fit_notes = fit_operands(run, engine)
        with timed("decodability"):
            search_all(run, engine, crew.take)
        with timed("screen"):
            estimate(run, engine, crew.take)
            crew.until(lambda: is_estimated(run, engine))
            choose(run, engine)
            plan, prefix = chosen_plan(run)
        with timed("packs"):
            placed = engine.place(operands)
            choice = choose_engine(plan, engine, placed, run.options.engine)
            parts = PackParts(plan, run.folder, prefix, choice.engine, budget)
            packs = PackRunner(parts, engine, placed, run.progress.counter("packs", len(parts), shared=True), crew.take)
        with timed("guardedness"):
            note_points(run, engine)
        crew.begin(choice.engine)
        _compute_packs(run, packs, crew, measure)
        with timed("texts"):
            texts = TextParts(run, plan, prefix, engine, placed)
            texts.write(crew.take)
            crew.until(texts.are_there, texts.step)
            texts.gather(tokenizer)
        with timed("guardedness"):
            guard_notes = probe_guarded(run, engine, choice.engine, placed, crew.take)
            crew.until(lambda: all_probed(run))
        with timed("decodability"):
            crew.until(lambda: all_searched(run))
        others = crew.finish()
    for other in others:
        run.progress.add_processor_seconds(other.processor_seconds)
    entry = _entry(run, engine, placement, packs.halving.times, others)
    own = [f"{run.note_head}{note}" for note in (placement.note, slow_dtype(engine.device, engine.dtype)) if note]
    fallback = [choice.fallback] if choice.fallback else []
    result = ModelResult(entry, parts.explain(choice.reason), [*own, *notes, *fit_notes, *fallback, *guard_notes])
    return result, blueprint_of(model), tokenizer


def _entry(
    run: ModelRun, engine: LocalEngine, placement: Placement, halved: int, others: Sequence[Tally]
) -> dict[str, Any]:
    """The manifest's. halved: how often packs were, in this process."""
    computed = engine.token_layers - engine.sampled + sum(other.token_layers for other in others)
    return model_entry(
        run.plan,
        counted(engine.module),
        str(engine.dtype),
        str(engine.device),
        **({"devices": placement.names(engine.device)} if run.options.devices else {}),
        # of the processes of this command: what an earlier one left in parts is not computed again
        token_layers={"computed": computed, "sample": engine.sampled},
        budget={**asdict(engine.budget), "halved": max([halved, *(other.halved for other in others)])},
        **({"embedding_sd": float(engine.noise_unit())} if run.plan.has_noise else {}),
    )


def _compute_packs(run: ModelRun, packs: PackRunner, crew: Crew, measure: Measure) -> None:
    """Measure each group as soon as it is there, in their order; what others have begun is waited for at the end."""
    parts, timed = packs.parts, run.progress.timed
    waiting: deque[Group] = deque()
    for group in parts.groups:
        with timed("packs"):
            packs.run(group)
        waiting.append(group)
        while waiting and parts.hold(waiting[0]):
            done = waiting.popleft()
            measure(done, parts.scores(done))
    for group in waiting:
        with timed("packs"):
            crew.until(partial(parts.hold, group), packs.step)
        measure(group, parts.scores(group))
