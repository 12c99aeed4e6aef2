"""Seconds that a plan will take, predicted from about a second of each phase on the loaded model.

Of each phase (fit, decodability, packs) some passes are run, with as many prompts as the second allows
(``timed_passes``). Their seconds against their FLOPs, which the plan counts, give what a pass costs by itself and what
a FLOP costs; the phase is the sum over its passes. What is run is what a run will run: its prompts, layouts, edits and
read-outs. Only the operands are not fitted yet, so zeros stand for them.

Not predicted: loading, planning, what is made of states (vectors, probes, floors), texts, screens, learning, an
untrained twin, tables and the report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from patchboard.engine.device import devices_of
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.engine.memory import budget_for
from patchboard.engine.pack_scores import pack_layout
from patchboard.execution.choose_engine import choice_without_sample, sample_packs
from patchboard.execution.run_packs import scorers_of
from patchboard.execution.stand_ins import stand_ins
from patchboard.execution.timed_passes import Pass, Seconds, seconds_of, timed
from patchboard.measure.nearest import nearest, votes
from patchboard.plan.facts import ModelFacts
from patchboard.plan.flops import flops_of
from patchboard.plan.model import Decoding, Fit, Group, ModelPlan, Pack
from patchboard.plan.pack_cost import Known, packs_cost
from patchboard.plan.packs import Budget, packs_of
from patchboard.plan.pass_work import work_of
from patchboard.plan.screen import largest_plan
from patchboard.plan.whole_prompts import passes_of, whole_shape
from patchboard.tasks.prompt import Prompt

_SECONDS = 1.0
"""About how long the passes of a phase may take that are timed; one prompt's may take longer."""


def predicted_seconds(plan: ModelPlan, engine: str, device: str) -> dict[str, dict[str, float]]:
    """``predicted_seconds`` and ``predicted_processor_seconds``, each by phase, named as in a run's manifest.

    engine, device: as the flags have them. Raises ModelError, also where the weights are not there.
    """
    tokenizer, _ = open_model(plan.section)
    model = load_weights(plan.section, device, plan.section.dtype)
    budget = budget_for(plan.facts, devices_of(model), model.dtype.itemsize)
    local = LocalEngine(model, tokenizer, budget)
    phases = {
        "fit": list(_whole(plan, plan.fits, local)),
        "decodability": list(_whole(plan, plan.decodings, local)),
        "packs": list(_packs(plan, engine, local)),
    }
    phases = {name: passes for name, passes in phases.items() if passes}
    found: dict[str, Seconds] = {}
    for name, passes in phases.items():
        found[name] = seconds_of(passes, _SECONDS, local.device, first=not found)
    for decoding in plan.decodings:
        found["decodability"] += _search(decoding, plan.facts, local.device)
    return {
        "predicted_seconds": {name: round(seconds.clock, 3) for name, seconds in found.items()},
        "predicted_processor_seconds": {name: round(seconds.processor, 3) for name, seconds in found.items()},
    }


def _whole(plan: ModelPlan, parts: Sequence[Fit | Decoding], local: LocalEngine) -> Iterator[Pass]:
    """The passes of fits or of decodings."""
    for part in parts:
        for label, chunk in passes_of(part, local.budget):

            def run(
                count: int, part: Fit | Decoding = part, label: str = label, chunk: Sequence[Prompt] = chunk
            ) -> None:
                some = replace(part, prompts={label: tuple(chunk[:count])})
                if isinstance(some, Fit):
                    local.fit([replace(some, judged_by="")])
                else:
                    local.decode(some, lambda states: None)

            flops = partial(_flops_of_whole, part, chunk, plan.facts, local.budget)
            yield Pass(len(chunk), flops, run)


def _flops_of_whole(
    part: Fit | Decoding, chunk: Sequence[Prompt], facts: ModelFacts, budget: Budget, count: int
) -> int:
    return flops_of(work_of(whole_shape(part, chunk[:count]), facts, budget), facts)


def _packs(plan: ModelPlan, engine: str, local: LocalEngine) -> Iterator[Pass]:
    """The sample by which it is chosen how cells are computed, then the packs."""
    largest, chosen = largest_plan(plan), choice_without_sample(plan, engine)
    way = chosen.engine if chosen else engine
    of_groups = ((group, pack) for group in largest.groups for pack in packs_of(group, plan.facts, way, local.budget))
    known: dict[str, Known] = {}
    for group, pack in (*sample_packs(plan, engine, local.budget), *of_groups):

        def flops(count: int, group: Group = group, pack: Pack = pack) -> int:
            packs = [_first_of(pack, count)]
            return packs_cost(group, packs, plan.facts, local.budget, known.setdefault(group.id, {}))["flops"]

        def run(count: int, group: Group = group, pack: Pack = pack) -> None:
            layout = pack_layout(group, _first_of(pack, count))
            operands = stand_ins(layout, plan.facts, plan.recipes, local.device)
            _, result = local.forward(layout, operands, scorers_of(group.metrics))
            for values in result["scores"].values():
                values.cpu()

        yield Pass(len(pack.prompts), flops, run)


def _first_of(pack: Pack, count: int) -> Pack:
    """The pack with its first prompts alone."""
    together = min(pack.together, count)
    return replace(pack, prompts=pack.prompts[: count - count % together], together=together)


def _search(decoding: Decoding, facts: ModelFacts, device: torch.device) -> Seconds:
    """The search for neighbours and their votes at each layer and number of shots, by one of random points: it takes
    the same whatever the states are."""
    points = sum(not prompt.excluded for rows in decoding.prompts.values() for prompt in rows)
    states, labels = torch.randn(points, facts.width), np.arange(points)

    def search() -> None:
        votes(labels[nearest(states, decoding.section.k).numpy()])

    search()
    return timed(search, device).times(facts.layers * len(decoding.section.shots))
