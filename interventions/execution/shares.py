"""A process's share of a model's run, from the weights to the last probe: what it takes it leaves as parts."""

from __future__ import annotations

from collections.abc import Callable

import torch

from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.execution.claims import Tally
from patchboard.execution.fitting import fit_operands
from patchboard.execution.guardedness import probe_guarded
from patchboard.execution.identity import check_loaded
from patchboard.execution.local_decodings import search_all
from patchboard.execution.model_run import ModelRun
from patchboard.execution.pack_parts import PackParts
from patchboard.execution.run_packs import PackRunner
from patchboard.execution.screen import chosen_plan, estimate
from patchboard.execution.texts import TextParts
from patchboard.plan.packs import Budget


def work_through(
    run: ModelRun, budget: Budget, threads: int, take: Callable[[str], bool], tally: Tally, way: Callable[[], str]
) -> None:
    """way: waits until the vectors are fitted, and gives how cells are computed. tally: is kept as work goes on."""
    torch.set_num_threads(threads)
    plan, timed = run.plan, run.progress.timed
    if run.options.device.startswith("cuda"):
        torch.cuda.set_device(run.options.device)  # what libraries put on no device in particular
    with timed("load"):
        tokenizer, _ = open_model(plan.section)
        model = load_weights(plan.section, run.options.device, plan.section.dtype)
        check_loaded(run.folder, plan.section, model.config)
        engine = LocalEngine(model, tokenizer, budget)
    with timed("decodability"):
        search_all(run, engine, take)
    with timed("screen"):
        estimate(run, engine, take)
    chosen = way()
    with timed("packs"):
        operands, _ = fit_operands(run, engine)  # read: who has started this process has fitted them
        placed = engine.place(operands)
        plan, prefix = chosen_plan(run)
        parts = PackParts(plan, run.folder, prefix, chosen, budget)
        packs = PackRunner(parts, engine, placed, run.progress.counter("packs", len(parts)), take)
        for group in plan.groups:
            packs.run(group)
    with timed("texts"):
        TextParts(run, plan, prefix, engine, placed).write(take)
    with timed("guardedness"):
        probe_guarded(run, engine, chosen, placed, take)
    tally.token_layers, tally.halved = engine.token_layers, packs.halving.times
