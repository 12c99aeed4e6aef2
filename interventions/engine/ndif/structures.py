"""Packs of a job by structure: those whose prompts are of the same shapes differ in their tokens alone, so that
each structure is laid out once, and sent once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from patchboard.engine.pack_scores import pack_layout
from patchboard.plan.layout import Layout, answer_starts
from patchboard.plan.model import Group, Pack
from patchboard.plan.packing import lay_out
from patchboard.plan.suffix import shape_of

Packs = Sequence[tuple[Group, Pack]]


@dataclass(frozen=True)
class Structure:
    """packs: places among the job's. layout: of the first. tokens [pack, row, seq]; targets, foils [pack, read]."""

    packs: tuple[int, ...]
    layout: Layout
    tokens: np.ndarray
    targets: np.ndarray
    foils: np.ndarray


def structures_of(packs: Packs) -> Iterator[Structure]:
    for numbers, layout in _grouped_by_shape(packs):
        yield Structure(tuple(numbers), layout, *_tokens_of(packs, numbers, layout))


def answers_of(packs: Packs) -> list[tuple[np.ndarray, np.ndarray]]:
    """(query, copy) [answer] of each pack's answers, in the order in which they are computed."""
    answers: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for numbers, layout in _grouped_by_shape(packs):
        reads = layout.reads
        starts = answer_starts(reads.prompt, reads.copy)
        for number in numbers:
            pack = packs[number][1]
            answers[number] = np.array(pack.prompts)[reads.prompt[starts]], np.array(pack.copies)[reads.copy[starts]]
    return [answers[number] for number in range(len(packs))]


def of_own_task(group: Group, copies: np.ndarray) -> np.ndarray:
    """[answer] bool: whether it is the prompts' own task's answer that these copies are scored on."""
    return np.array([not group.copies[c].target for c in copies.tolist()], dtype=bool)


def _grouped_by_shape(packs: Packs) -> Iterator[tuple[list[int], Layout]]:
    """The numbers of packs of one structure, and the first one's layout."""
    groups: dict[tuple, list[int]] = {}
    for number, (group, pack) in enumerate(packs):
        key = (group.id, pack.copies, pack.way, pack.together, *_shapes(group, pack))
        groups.setdefault(key, []).append(number)
    for numbers in groups.values():
        yield numbers, pack_layout(*packs[numbers[0]])


def _shapes(group: Group, pack: Pack) -> list[tuple]:
    """Of the pack's prompts, and of those whose states they are given."""
    return [tuple(shape_of(some[i]) for i in pack.prompts) for some in (group.prompts, *group.donors.values())]


def _tokens_of(packs: Packs, numbers: list[int], layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, targets and foils of each of these packs."""
    group, first = packs[numbers[0]]
    if first.together > 1 or any(len(set(shapes)) > 1 for shapes in _shapes(group, first)):
        layouts = [layout, *(pack_layout(*packs[number]) for number in numbers[1:])]
    else:  # prompts of one shape, each in rows of its own: one layout of all of them, cut into packs
        inside = [i for number in numbers for i in packs[number][1].prompts]
        chosen = {source: [prompts[i] for i in inside] for source, prompts in group.donors.items()}
        copies = [group.copies[c] for c in first.copies]
        prompts, foils = [group.prompts[i] for i in inside], [group.foils[i] for i in inside]
        layouts = [lay_out(prompts, foils, copies, first.way, donors=chosen)]
    tokens = np.concatenate([one.tokens for one in layouts]).reshape(len(numbers), *layout.tokens.shape)
    targets, foils = (
        np.concatenate([getattr(one.reads, name) for one in layouts]).reshape(len(numbers), -1)
        for name in ("target", "foil")
    )
    return tokens, targets, foils
