"""Passes over whole prompts, as fits and decodings run them: which prompts share one, and what all of them take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from patchboard.plan.facts import ModelFacts
from patchboard.plan.flops import causal_work, flops_of, no_work
from patchboard.plan.model import Decoding, Fit
from patchboard.plan.packs import Budget
from patchboard.plan.pass_work import PassShape, work_of
from patchboard.plan.suffix import branch_tokens, branches, clean_tokens
from patchboard.tasks.prompt import Prompt


def chunks(prompts: Sequence[Prompt], tokens: int, shots: Sequence[int]) -> Iterator[Sequence[Prompt]]:
    """Prompts in batches of at most ``tokens`` tokens, padding counted; excluded ones left out.

    shots: at which it is asked whether they are answered rightly; further right answers can take sequences of their
    own.
    """
    kept = [prompt for prompt in prompts if not prompt.excluded]
    start, widest, rows = 0, 0, 0
    for i, prompt in enumerate(kept):
        own = branch_tokens(prompt, shots) if prompt.more or prompt.demo_right else []
        longest = max([len(prompt.token_ids) + len(prompt.answer_ids), *own])
        widest = max(widest, longest)
        rows += 1 + len(own)
        if i > start and widest * rows > tokens:
            yield kept[start:i]
            start, rows, widest = i, 1 + len(own), longest
    if start < len(kept):
        yield kept[start:]


def shots_of(part: Fit | Decoding) -> Sequence[int]:
    """Numbers of demonstrations at which it is asked whether the prompts are answered rightly."""
    return part.section.shots if isinstance(part, Decoding) else [part.shots]


@dataclass(frozen=True)
class WholePrompts:
    """tokens: padding left out. flops: of arrays with their padding. bound_flops: without it, each token's attention to
    those before it alone, each distribution read once."""

    tokens: int
    passes: int
    flops: int
    bound_flops: int


def whole_prompts(parts: Sequence[Fit | Decoding], facts: ModelFacts, budget: Budget) -> WholePrompts:
    """What fits and decodings compute, which run whole prompts."""
    passes = [(part, chunk) for part in parts for _, chunk in passes_of(part, budget)]
    shapes = [whole_shape(part, chunk) for part, chunk in passes]
    work = sum((work_of(shape, facts, budget) for shape in shapes), no_work(facts.layers))
    sizes = Counter(size for part, chunk in passes for size in _sizes(part, chunk))
    least = sum((causal_work(facts.layers, 0, n).times(often) for n, often in sizes.items()), no_work(facts.layers))
    twice = sum(len(ids) > 1 for part, chunk in passes for ids in _more(part, chunk))
    return WholePrompts(
        sum(size * often for size, often in sizes.items()), len(passes), flops_of(work, facts),
        flops_of(replace(least, reads=sum(shape.reads for shape in shapes) - twice), facts),
    )  # fmt: skip


def passes_of(part: Fit | Decoding, budget: Budget) -> Iterator[tuple[str, Sequence[Prompt]]]:
    """(label, prompts) of each."""
    for label, prompts in part.prompts.items():
        for chunk in chunks(prompts, budget.at_once, shots_of(part)):
            yield label, chunk


def whole_shape(part: Fit | Decoding, chunk: Sequence[Prompt]) -> PassShape:
    """Of the pass over these prompts and, as rows of their own, further right answers of several tokens, whose first
    token is read there once more."""
    sizes, shots = _sizes(part, chunk), shots_of(part)
    reads = sum(_answer_length(prompt, s) for prompt in chunk for s in shots)
    reads += sum(len(ids) for ids in _more(part, chunk) if len(ids) > 1)
    longest = max(sizes)
    return PassShape(
        len(sizes), ((0, longest),), min(sizes) < longest, packed=False, runs=len(sizes), longest=longest, seen=longest,
        cut=False, reads=reads,
    )  # fmt: skip


def _sizes(part: Fit | Decoding, chunk: Sequence[Prompt]) -> list[int]:
    """Tokens of each sequence of a pass."""
    return [n for prompt in chunk for n in (len(clean_tokens(prompt)), *branch_tokens(prompt, shots_of(part)))]


def _more(part: Fit | Decoding, chunk: Sequence[Prompt]) -> Iterator[tuple[int, ...]]:
    """Further right answers to the rows of these prompts."""
    return (ids for prompt in chunk for _, more in branches(prompt, shots_of(part)) for ids in more)


def _answer_length(prompt: Prompt, shots: int) -> int:
    return len(prompt.demo_answers[shots] if shots < len(prompt.demo_answers) else prompt.answer_ids)
