"""The least that any exact method computes of a group, and what a loop of forward passes does.

Clean prompts once; each counterfactual token from the block on that its run is edited at, attending to the tokens
before it and itself; each distinct next-token distribution read once. Padding does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from patchboard.plan.facts import ModelFacts
from patchboard.plan.flops import Work, causal_work, flops_of, no_work
from patchboard.plan.model import Counterfactual, Group
from patchboard.plan.suffix import UNEDITED, Shape, Suffix, clean_tokens, first_block, same_runs, shape_of, suffix_of
from patchboard.tasks.prompt import Prompt


def bounds(group: Group, facts: ModelFacts) -> Counter[str]:
    """The least that the group's cells take, and what a loop of forward passes takes."""
    layers = facts.layers
    known: dict[Shape, tuple[Counter[str], Work]] = {}
    shapes = Counter(shape for prompt in group.prompts if (shape := shape_of(prompt)))
    total, work = Counter[str](), no_work(layers)
    runs = same_runs(group.copies)
    for prompt in group.prompts:
        shape = shape_of(prompt)
        if not shape:
            continue
        if shape not in known:
            known[shape] = _bounds_of(prompt, group, runs, layers)
            work += known[shape][1].times(shapes[shape])
        total.update(known[shape][0])
    donors = Counter(len(clean_tokens(p)) for some in group.donors.values() for p in some if not p.excluded)
    for length, often in donors.items():
        work += causal_work(layers, 0, length).times(often)
    if group.prefix:  # computed once for all
        work -= causal_work(layers, 0, group.prefix).times(shapes.total() - 1)
    return total + Counter(bound=int(work.tokens.sum()), bound_flops=flops_of(work, facts))


def _bounds_of(prompt: Prompt, group: Group, runs: Sequence[int], layers: int) -> tuple[Counter[str], Work]:
    """Of one prompt and its copies: what a loop takes, and the least. runs: as of ``same_runs``."""
    total, work = Counter[str](), causal_work(layers, 0, len(clean_tokens(prompt)))
    seen, read = set(), set()
    for copy, number in zip(group.copies, runs, strict=True):
        suffix = suffix_of(prompt, copy)
        if suffix is None:
            continue
        read |= _distributions(prompt, copy, number, suffix)
        if (number, suffix.tokens) in seen:
            continue
        seen.add((number, suffix.tokens))
        for run, own in ((copy, suffix), *suffix.lent):
            if run is not copy and ("lent", run.edits, own.tokens) in seen:
                continue
            seen.add(("lent", run.edits, own.tokens))
            work += causal_work(layers, own.start, len(own.tokens), first_block(run))
            total["loop_forwards"] += 1
            total["loop_token_layers"] += len(own.tokens) * layers
    return total, replace(work, reads=len(read) if group.metrics else 0)


def _distributions(prompt: Prompt, copy: Counterfactual, number: int, suffix: Suffix) -> set[tuple]:
    """What tells the distributions that a copy's answer and its clean reference are read from: the run, and which
    tokens of an answer stand before."""
    edited = [number if prompt.last + j >= suffix.start else UNEDITED for j in range(len(suffix.answer))]
    return {(run, suffix.answer[:j]) for j, run in enumerate(edited)} | {(copy.against or UNEDITED, ())}
