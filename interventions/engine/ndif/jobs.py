"""A plan in jobs: each is one request, fits what it needs, and answers for its packs or its decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from patchboard.plan.model import Decoding, Fit, Group, ModelPlan, Pack
from patchboard.plan.pack_cost import pack_sizes
from patchboard.plan.packs import Budget, halved
from patchboard.vectors.base import Recipe

STATE_BYTES = 1 << 30
"""Of states that one decoding job holds on the server, float32; their layers are split over jobs beyond it."""


@dataclass(frozen=True)
class Job:
    """One request. ``key`` names all that decides its answer; it comes home with the answer."""

    key: str
    name: str
    tokens: int
    answers: int = 0
    """That are scored; of a decoding, its points times shots times layers."""
    own_answers: int = 0
    """Those of the prompts' own tasks: only whether it is right is asked of another task's answer (conversion)."""
    packs: tuple[tuple[Group, Pack], ...] = ()
    decoding: Decoding | None = None
    layers: range = range(0)
    """Of the decoding."""
    halvings: int = 0
    """How often its passes are halved, since it ran out of memory."""


@dataclass(frozen=True)
class Sizes:
    """How jobs are cut: tokens of a job, and what its passes may hold."""

    job_tokens: int = 200_000
    budget: Budget = field(default_factory=Budget)


def cell_jobs(plan: ModelPlan, packs: Sequence[tuple[Group, Pack]], sizes: Sizes, base: str) -> list[Job]:
    """The packs in order, as many in a job as its tokens allow, those of the fits that they need included.

    base: what the run and the model are called, part of each key.
    """
    jobs: list[Job] = []
    taken: list[tuple[Group, Pack]] = []
    tokens, answers, own, fits = 0, 0, 0, {fit.id: _fit_tokens(fit) for fit in plan.fits}

    def close() -> None:
        recipes = recipes_of(plan, taken)
        whole = tokens + sum(fits[fit.id] for fit in fits_of(plan, recipes))
        name = f"cells-{len(jobs) + 1}"
        key = _key(base, sizes, [pack.id for _, pack in taken])
        jobs.append(Job(key, name, whole, answers, own, tuple(taken)))

    for (group, pack), (more, scored, scored_own) in zip(packs, _sizes_of(packs), strict=True):
        if taken and tokens + more > sizes.job_tokens:
            close()
            taken, tokens, answers, own = [], 0, 0, 0
        taken.append((group, pack))
        tokens, answers, own = tokens + more, answers + scored, own + scored_own
    if taken:
        close()
    return jobs


def in_halves(job: Job, times: int) -> Job:
    """The same job in smaller passes: its packs, and the batches of its fits or its decoding. Other jobs stay."""
    packs = tuple((group, piece) for group, pack in job.packs for piece in halved(pack, times))
    tokens, answers, own = (sum(sizes) for sizes in zip((0, 0, 0), *_sizes_of(packs), strict=True))
    whole = sum(tokens for tokens, _, _ in _sizes_of(job.packs))
    counted = {"tokens": job.tokens - whole + tokens, "answers": answers, "own_answers": own} if packs else {}
    key = hashlib.sha256(f"{job.key}/{times}".encode()).hexdigest()[:24]
    return replace(job, key=key, packs=packs, halvings=times, **counted)


def _sizes_of(packs: Sequence[tuple[Group, Pack]]) -> list[tuple[int, int, int]]:
    return [
        sizes
        for _, some in groupby(packs, key=lambda one: one[0].id)
        for members in [list(some)]
        for sizes in pack_sizes(members[0][0], [pack for _, pack in members])
    ]


def decoding_jobs(plan: ModelPlan, sizes: Sizes, base: str) -> list[Job]:
    """One job a decoding, or several of some layers each where their states would be too many."""
    jobs = []
    for decoding in plan.decodings:
        prompts = [p for rows in decoding.prompts.values() for p in rows if not p.excluded]
        tokens = sum(len(p.token_ids) + len(p.answer_ids) for p in prompts)
        of_layer = len(prompts) * len(decoding.section.shots) * plan.facts.width * 4
        step = max(1, min(plan.facts.layers, STATE_BYTES // max(1, of_layer)))
        for start in range(0, plan.facts.layers, step):
            layers = range(start, min(start + step, plan.facts.layers))
            key = _key(base, sizes, [decoding.id, layers.start, layers.stop])
            votes = len(prompts) * len(decoding.section.shots) * len(layers)
            jobs.append(Job(key, f"cd-{len(jobs) + 1}", tokens, votes, decoding=decoding, layers=layers))
    return jobs


SURVEY = "survey"
"""Name of a run's first job."""


def survey_job(plan: ModelPlan, packs: Sequence[tuple[Group, Pack]], sizes: Sizes, base: str) -> Job:
    """The sample by which the engine is chosen; it tells the served dtype and the host's versions too."""
    whole = replace(sizes, job_tokens=1 << 62)
    if not packs:
        return Job(_key(base, whole, ["look"]), SURVEY, 1)
    (job,) = cell_jobs(plan, packs, whole, base)
    return replace(job, name=SURVEY)


def recipes_of(plan: ModelPlan, packs: Sequence[tuple[Group, Pack]]) -> dict[str, Recipe]:
    """The recipes of the operands that the packs' copies name."""
    copies = {(group.id, c): group.copies[c] for group, pack in packs for c in pack.copies}
    names = {name: None for copy in copies.values() for edit in copy.edits for name in (edit.operand, edit.subspace)}
    return {name: plan.recipes[name] for name in names if name in plan.recipes}


def fits_of(plan: ModelPlan, recipes: Mapping[str, Recipe]) -> list[Fit]:
    """The fits that the recipes are made from, and those by whose right answers these go."""
    named = {recipe.fit for recipe in recipes.values()}
    judges = {fit.judged_by for fit in plan.fits if fit.id in named}
    return [fit for fit in plan.fits if fit.id in named | judges]


def slots_of(job: Job) -> dict[tuple[str, int], int]:
    """(group, copy) -> its place among the job's largest moves."""
    slots: dict[tuple[str, int], int] = {}
    for group, pack in job.packs:
        for c in pack.copies:
            slots.setdefault((group.id, c), len(slots))
    return slots


def _key(base: str, sizes: Sizes, of: list[Any]) -> str:
    text = json.dumps([base, sizes.budget.tokens, sizes.budget.read_floats, of])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _fit_tokens(fit: Fit) -> int:
    return sum(len(p.token_ids) + len(p.answer_ids) for rows in fit.prompts.values() for p in rows if not p.excluded)
