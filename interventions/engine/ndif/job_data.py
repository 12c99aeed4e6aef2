"""What a job's body is given on a server: plain data, sealed batches, each structure of packs once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from patchboard.engine.batch import make_batch, put
from patchboard.engine.batches import decoding_batches, fit_batches, judge_of
from patchboard.engine.ndif.jobs import Job, Sizes, fits_of, recipes_of, slots_of
from patchboard.engine.ndif.structures import of_own_task, structures_of
from patchboard.engine.nnsight_model import wiring_of
from patchboard.engine.record import Record, fields_of, sealed
from patchboard.plan.layout import answer_starts
from patchboard.plan.model import Fit, ModelPlan
from patchboard.vectors.base import Recipe
from patchboard.vectors.dictionaries.weights import some_features

OF_EACH_PACK = ("tokens", "targets", "foils", "queries")
"""What batches of packs that share a structure do not share."""


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
        **_packs_data(job, slots),
        "decoding": _decoding_data(job, tokens) if job.decoding else None,
        "bring_vectors": bring_vectors,
        "noise": (embedding, plan.facts.vocab) if _has_noise(job) else None,
    }


def _has_noise(job: Job) -> bool:
    copies = (group.copies[c] for group, pack in job.packs for c in pack.copies)
    return any(edit.seed >= 0 for copy in copies for edit in copy.edits)


def _packs_data(job: Job, slots: dict[tuple[str, int], int]) -> dict[str, Any]:
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
        queries = [job.packs[place][1].prompts for place in structure.packs]
        per_pack = (structure.tokens, structure.targets, structure.foils, queries)
        for place, *own in zip(structure.packs, *per_pack, strict=True):
            packs[place] = (len(structures), [sealed(put(values)) for values in own])
        structures.append((sealed(Record(**shared)), sealed(put(starts)), sealed(put(own_answers)), sealed(own_slots)))
    return {"structures": structures, "packs": packs, "slots": len(slots)}


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
