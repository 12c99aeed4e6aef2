"""A plan in jobs: each is one request, fits what it needs, and answers for its packs or its decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch

from patchboard.engine.batch import make_batch, put
from patchboard.engine.batches import decoding_batches, fit_batches, judge_of
from patchboard.engine.local import wiring_of
from patchboard.engine.ndif.structures import of_own_task, structures_of
from patchboard.engine.record import Record, fields_of, sealed
from patchboard.plan.layout import answer_starts
from patchboard.plan.model import Decoding, Fit, Group, ModelPlan, Pack
from patchboard.plan.pack_cost import pack_sizes
from patchboard.plan.packs import Budget, halved
from patchboard.plan.shown import shown_copies, top_bytes
from patchboard.vectors.base import Recipe
from patchboard.vectors.dictionaries.weights import some_features

STATE_BYTES = 1 << 30
"""Of states that one decoding job holds on the server, float32; their layers are split over jobs beyond it."""


ANSWER_BYTES, TENSOR_BYTES = 1600, 300
"""Of an answer and of each of its tensors, beside the numbers themselves: torch's container, keys, served versions.
Measured: 1,489 bytes around two tensors, 40 to 205 more for each further one."""


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


def largest_answer(plan: ModelPlan, job: Job, scores: int, vectors: bool) -> int:
    """Bytes that a job's answer has at most: its numbers as they are, as if nothing of them could be compressed.

    scores: of each answer, beside accuracy. vectors: whether it brings fitted vectors home.
    """
    if job.decoding:
        tensors, numbers = 2, 2 * job.answers + job.answers // max(1, len(job.layers))
    else:
        tensors, numbers = 2 + scores, 4 * scores * job.own_answers + job.answers + 4 * len(slots_of(job))
        tensors += 4 if any(shown_copies(group) for group, _ in job.packs) else 0
        numbers += sum(top_bytes(group, pack.prompts, pack.copies) for group, pack in job.packs)
    for recipe in recipes_of(plan, job.packs).values() if vectors else ():
        width = len(recipe.neurons) or plan.facts.width_at(recipe.place.site if not recipe.heads else "resid_post")
        tensors += 3 if recipe.rank else 1
        numbers += 4 * width * (2 * recipe.rank + 1)
    tasks = sum(len(task) for fit in plan.fits for task in fit.prompts)  # those of which no prompt was answered rightly
    whole = ANSWER_BYTES + tasks + TENSOR_BYTES * tensors + numbers
    return whole + (whole >> 8)  # what cannot be compressed grows by no more


SURVEY = "survey"
"""Name of a run's first job."""


def survey_job(plan: ModelPlan, packs: Sequence[tuple[Group, Pack]], sizes: Sizes, base: str) -> Job:
    """The sample by which the engine is chosen; it tells the served dtype and the host's versions too."""
    whole = replace(sizes, job_tokens=1 << 62)
    if not packs:
        return Job(_key(base, whole, ["look"]), SURVEY, 1)
    (job,) = cell_jobs(plan, packs, whole, base)
    return replace(job, name=SURVEY)


def _key(base: str, sizes: Sizes, of: list[Any]) -> str:
    text = json.dumps([base, sizes.budget.tokens, sizes.budget.read_floats, of])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _fit_tokens(fit: Fit) -> int:
    return sum(len(p.token_ids) + len(p.answer_ids) for rows in fit.prompts.values() for p in rows if not p.excluded)


def recipes_of(plan: ModelPlan, packs: Sequence[tuple[Group, Pack]]) -> dict[str, Recipe]:
    """The recipes of the operands that the packs' copies name."""
    copies = {(group.id, c): group.copies[c] for group, pack in packs for c in pack.copies}
    names = {name: None for copy in copies.values() for edit in copy.edits for name in (edit.operand, edit.subspace)}
    return {name: plan.recipes[name] for name in names if name in plan.recipes}


def slots_of(job: Job) -> dict[tuple[str, int], int]:
    """(group, copy) -> its place among the job's largest moves."""
    slots: dict[tuple[str, int], int] = {}
    for group, pack in job.packs:
        for c in pack.copies:
            slots.setdefault((group.id, c), len(slots))
    return slots


def job_data(
    plan: ModelPlan, job: Job, config: Any, sizes: Sizes, bring_vectors: bool = False, embedding: str = ""
) -> dict[str, Any]:
    """What ``job_body.answer_job`` is given: plain data, small integers, a few strengths. config: the model's.
    embedding: path of its input embeddings' module, by which noise is measured."""
    wiring = wiring_of(config, torch.float32)  # the dtype is looked up over there
    recipes = recipes_of(plan, job.packs)
    slots = slots_of(job)
    tokens = sizes.budget.halved(job.halvings).tokens
    return {
        "key": job.key,
        "architecture": fields_of(wiring.architecture),
        "window": wiring.window,
        "head_slots": wiring.slots,
        "head_dim": wiring.head_dim,
        "neurons": wiring.neurons,
        "fits": [_fit_data(fit, plan.fits, recipes, tokens) for fit in fits_of(plan, recipes)],
        "recipes": {key: _recipe_data(recipe) for key, recipe in recipes.items()},
        "only_correct": [(r.fit, _place_data(r)) for r in recipes.values() if r.only == "correct"],
        **packs_data(job, slots),
        "decoding": _decoding_data(job, tokens) if job.decoding else None,
        "bring_vectors": bring_vectors,
        "noise": (embedding, plan.facts.vocab) if _has_noise(job) else None,
    }


def _has_noise(job: Job) -> bool:
    copies = (group.copies[c] for group, pack in job.packs for c in pack.copies)
    return any(edit.seed >= 0 for copy in copies for edit in copy.edits)


OF_EACH_PACK = ("tokens", "targets", "foils", "first")
"""What batches of packs that share a structure do not share."""


def packs_data(job: Job, slots: dict[tuple[str, int], int]) -> dict[str, Any]:
    """Each structure once, and of each pack, in their order, its structure's number and its own tokens."""
    structures: list[tuple] = []
    packs: list[Any] = [None] * len(job.packs)
    for structure in structures_of(job.packs):
        group, first = job.packs[structure.packs[0]]
        batch = make_batch(structure.layout)
        shared = {name: value for name, value in fields_of(batch).items() if name not in OF_EACH_PACK}
        reads = structure.layout.reads
        starts = answer_starts(reads.prompt, reads.copy)
        own_answers = np.flatnonzero(of_own_task(group, np.array(first.copies)[reads.copy[starts]]))
        own_slots = put([slots[group.id, c] for c in first.copies])
        firsts = [[job.packs[place][1].prompts.start] for place in structure.packs]
        per_pack = (structure.tokens, structure.targets, structure.foils, firsts)
        for place, *own in zip(structure.packs, *per_pack, strict=True):
            packs[place] = (len(structures), [sealed(put(values)) for values in own])
        structures.append((sealed(Record(**shared)), sealed(put(starts)), sealed(put(own_answers)), sealed(own_slots)))
    return {"structures": structures, "packs": packs, "slots": len(slots)}


def fits_of(plan: ModelPlan, recipes: Mapping[str, Recipe]) -> list[Fit]:
    """The fits that the recipes are made from, and those by whose right answers these go."""
    named = {recipe.fit for recipe in recipes.values()}
    judges = {fit.judged_by for fit in plan.fits if fit.id in named}
    return [fit for fit in plan.fits if fit.id in named | judges]


def _fit_data(fit: Fit, fits: Sequence[Fit], recipes: dict[str, Recipe], tokens: int) -> dict[str, Any]:
    """The fit at the places and blocks that these recipes ask for."""
    own = [recipe for recipe in recipes.values() if recipe.fit == fit.id]
    layers = tuple(sorted({block for recipe in own for block in recipe.blocks}))
    some = replace(fit, layers=layers, places=tuple(dict.fromkeys(recipe.place for recipe in own)))
    return {
        "id": fit.id,
        "layers": layers,
        "labels": fit.labels,
        "keep_states": any(recipe.needs_states for recipe in own),
        "judge": judge_of(fit, fits),
        "places": [(place.site, place.position) for place in some.places],
        "batches": [(task, count, sealed(batch)) for task, count, batch in fit_batches(some, tokens)],
    }


def _place_data(recipe: Recipe) -> tuple[str, str]:
    return recipe.place.site, recipe.place.position


def _recipe_data(recipe: Recipe) -> dict[str, Any]:
    given = None if recipe.given is None else sealed(Record(tensors=recipe.given.tensors))
    data = fields_of(recipe) | {"place": _place_data(recipe), "seed": recipe.seed, "given": given}
    return data | (_features_data(recipe) if recipe.dictionary is not None else {})


def _features_data(recipe: Recipe) -> dict[str, Any]:
    """Of features that the spec names: their own part of the dictionary, in place of what they are chosen from."""
    assert recipe.dictionary is not None
    options = dict(recipe.options)
    some = some_features(recipe.dictionary, options["features"], torch.zeros(len(options["features"])))
    tensors = (some.encoder, some.bias, some.threshold, some.decoder, some.center, some.target, some.numbers)
    options |= {"norm": some.norm, "centred": some.centred}
    return {"given": sealed(Record(tensors=tensors)), "dictionary": None, "options": tuple(options.items())}


def _decoding_data(job: Job, tokens: int) -> dict[str, Any]:
    decoding = job.decoding
    assert decoding is not None
    present = [label for label, prompts in decoding.prompts.items() if any(not p.excluded for p in prompts)]
    code = {label: i for i, label in enumerate(present)}
    return {
        "k": decoding.section.k,
        "shots": len(decoding.section.shots),
        "batches": [
            (code[label], count, sealed(batch))
            for label, count, batch in decoding_batches(decoding, job.layers, tokens)
        ],
    }
