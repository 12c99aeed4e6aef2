"""Decodings computed in this process: states before the answers, their neighbours and what these vote for, and probes.

The model's, and those of its untrained twin, for which the model makes room.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from patchboard.engine.local import LocalEngine
from patchboard.engine.twin import Blueprint, untrained_twin
from patchboard.execution.decodings import twin_votes_file, votes_file, write_votes
from patchboard.execution.local_budget import budget_of
from patchboard.execution.model_run import ModelRun
from patchboard.execution.probe_parts import ProbeParts
from patchboard.measure.decodability import check_k, label_codes
from patchboard.measure.floors import permutations
from patchboard.measure.nearest import nearest, shuffled_hits, votes
from patchboard.measure.notes import not_finite
from patchboard.plan.model import Decoding
from patchboard.store.states import StateFile


def search_all(run: ModelRun, engine: LocalEngine, take: Callable[[str], bool]) -> None:
    """All decodings of the plan that are this process's to do. take: as of ``Claims``."""
    for decoding in run.plan.decodings:
        if take(votes_file(run, decoding)):
            _search_neighbours(run, decoding, engine)


def all_searched(run: ModelRun) -> bool:
    """Whether the folder has the model's decodings and probes."""
    return all(
        run.folder.has(votes_file(run, decoding)) and ProbeParts(run, decoding).all_there()
        for decoding in run.plan.decodings
    )


def _search_neighbours(run: ModelRun, decoding: Decoding, engine: LocalEngine) -> None:
    """Write what the model's neighbours vote for, and for shuffled labels, and what probes say, unless it is in the
    folder already."""
    probes = ProbeParts(run, decoding)
    _search(run, decoding, engine, votes_file(run, decoding), probes, decoding.section.shuffled)
    probes.fit_features()


def search_twins(run: ModelRun, blueprint: Blueprint, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Write what the neighbours in the untrained twin vote for, and what probes say, a twin for each seed; gives notes.

    The model itself is not needed any more, and should be gone. Raises ModelError where a twin's states overflow.
    """
    missing = [decoding for decoding in run.plan.decodings if decoding.section.twin and not _is_there(run, decoding)]
    notes: list[str] = []
    for seed in dict.fromkeys(decoding.seed for decoding in missing):
        gc.collect()  # what the model or an earlier twin left in cycles
        twin = untrained_twin(blueprint, seed)
        budget, changed = budget_of(run, twin, "twin")
        notes += changed
        engine = LocalEngine(twin, tokenizer, budget)
        for decoding in missing:
            if decoding.seed == seed:
                probes = ProbeParts(run, decoding, twin=True)
                _search(run, decoding, engine, twin_votes_file(run, decoding), probes, whose="the untrained twin's ")
        del twin, engine
    return list(dict.fromkeys(notes))


def _is_there(run: ModelRun, decoding: Decoding) -> bool:
    """Whether the folder has all of the untrained twin's."""
    return run.folder.has(twin_votes_file(run, decoding)) and not ProbeParts(run, decoding, twin=True).missing()


def _search(
    run: ModelRun, decoding: Decoding, engine: LocalEngine, name: str, probes: ProbeParts, shuffled: int = 0,
    whose: str = "",
) -> None:  # fmt: skip
    """name: of the votes' part. shuffled: permutations of the labels. whose: before what a progress bar or an error
    says."""
    layers = probes.missing()
    if run.folder.has(name) and not layers:
        return
    prompts = [prompt for rows in decoding.prompts.values() for prompt in rows]
    check_k(decoding.section.k, sum(not prompt.excluded for prompt in prompts))
    with StateFile(run.folder.path / "parts") as states:

        def keep(of_some: Tensor) -> None:
            if not of_some.isfinite().all():
                raise not_finite(f"{whose}states before the answers")
            states.add(of_some.numpy())

        accuracy, labels = engine.decode(decoding, keep, run.progress.counter(f"{whose}states for CD", len(prompts)))
        if not run.folder.has(name):
            voted, hits = _voted(states, labels, decoding, shuffled)
            write_votes(run.folder, name, voted, accuracy, labels, hits)
        if layers:
            probes.fit(layers, states.at, whose)


def _voted(
    states: StateFile, labels: Sequence[str], decoding: Decoding, shuffled: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Votes [layer, shots, point] for the labels' codes, and as ``FloorVotes.shuffled`` hits of permuted ones."""
    layers, shots, _ = states.shape
    codes = label_codes(labels)
    permuted = permutations(codes, shuffled, decoding.seed)
    voted = np.empty((layers, shots, len(codes)), dtype=np.int64)
    hits = np.empty((shuffled, layers, shots, int(codes.max()) + 1), dtype=np.int64)
    for layer, s in np.ndindex(layers, shots):
        neighbours = nearest(torch.from_numpy(states.at(layer, s)), decoding.section.k).cpu().numpy()
        voted[layer, s] = votes(codes[neighbours])
        if shuffled:
            hits[:, layer, s] = shuffled_hits(neighbours, permuted)
    return voted, hits if shuffled else None
