"""Which prompts and copies share a forward pass, and in which way, all before weights are loaded.

A pack's cost is counted as matrix work: what a token costs in a block by itself, and what it costs to
attend to a sequence. Copies that share a sequence share the clean run. Where attention goes over all pairs of a
sequence, most of them masked out, it has a best length; where copies attend to the clean run and themselves alone
(``Budget.sparse``), it holds as many as a pass may. Copies that compute nearly the whole prompt (edits at early
positions) are cheaper as whole rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from patchboard.plan.facts import ModelFacts
from patchboard.plan.flops import attention_width, block_numbers
from patchboard.plan.model import Counterfactual, EngineKind, Group, Pack
from patchboard.plan.suffix import Shape, clean_tokens, first_block, runs_of, shape_of, suffix_of
from patchboard.tasks.prompt import Prompt

_CACHED = 3 << 20
"""Numbers inside the MLP of a batch that are read again from a processor's caches (docs/performance.md, Tokens a
pass)."""


@dataclass(frozen=True)
class Budget:
    """What one forward pass may hold at most.

    tokens: beyond a few thousand, larger batches are no faster on any device. batch: of prompts that share nothing, as
    many as fill it go together; one prompt with its copies may take more. read_floats: logits (read x vocab), 128 MiB
    in float32. sparse: attention leaves out pairs of copies (``engine.block_sparse``). streamed: the head reads some
    states at a time, so packs hold as many reads as tokens allow.
    """

    tokens: int = 8192
    read_floats: int = 1 << 25
    sparse: bool = False
    streamed: bool = False
    batch: int = 8192

    def halved(self, times: int = 1) -> Budget:
        tokens, batch, floats = (max(1, one >> times) for one in (self.tokens, self.batch, self.read_floats))
        return replace(self, tokens=tokens, batch=batch, read_floats=floats)

    @property
    def at_once(self) -> int:
        """Tokens of several prompts that one pass may hold."""
        return min(self.tokens, self.batch)

    def reads(self, floats: int) -> int:
        """How many times so many logits a pass may hold."""
        return self.tokens if self.streamed else self.read_floats // floats


def default_budget(facts: ModelFacts, on_cpu: bool = True) -> Budget:
    """Of a model in this process, before it is known how much memory is free. A processor computes passes faster whose
    states stay in its caches."""
    whole = Budget(sparse=facts.sparse, streamed=True)
    return replace(whole, batch=min(max(_CACHED // facts.inside, 2048), whole.batch)) if on_cpu else whole


@dataclass(frozen=True)
class Size:
    """Lengths that decide a group's packs, each the largest over its prompts: of a prompt with its answer, of
    each copy's suffix, of an answer; ``prefix``: first tokens that all prompts share, if they are to. order: the usable
    prompts, those of one shape together and the shapes by how much there is to compute, so that little is padded."""

    prompt: int
    copies: tuple[int, ...]
    answers: int
    prefix: int = 0
    order: tuple[int, ...] = ()


def size_of(group: Group) -> Size:
    prompt, answers = 1, 1
    copies = [0] * len(group.copies)
    for p in group.prompts:
        if p.excluded:
            continue
        prompt = max(prompt, len(clean_tokens(p)))
        answers = max(answers, len(p.answer_ids), *map(len, p.alternatives.values()))
        answers = max(answers, *(len(answer.ids) for more in p.more.values() for answer in more), 0)
        answers = max(answers, *(len(ids) for source in p.sources.values() for ids in source.right()), 0)
    alike: dict[Shape, list[int]] = {}
    for i, p in enumerate(group.prompts):
        if not p.excluded:
            alike.setdefault(shape_of(p), []).append(i)
    work: list[tuple[int, int, list[int]]] = []
    for same in alike.values():
        p = group.prompts[same[0]]
        lengths = suffix_lengths(p, group.copies)
        copies = list(map(max, copies, lengths))
        work.append((sum(lengths), len(clean_tokens(p)), same))
    order = tuple(i for *_, same in sorted(work, key=lambda one: one[:2]) for i in same)
    return Size(prompt, tuple(copies), answers, group.prefix, order)


def suffix_lengths(prompt: Prompt, copies: Sequence[Counterfactual]) -> tuple[int, ...]:
    """Tokens of each copy's suffix, with that of a run that lends it states; 0 where it cannot be computed or is all in
    the clean run."""
    return tuple(suffix.computed if (suffix := suffix_of(prompt, copy)) else 0 for copy in copies)


def token_work(facts: ModelFacts, keys: float) -> float:
    """Multiplications of one token in one block, the mean of all, attending to ``keys`` tokens: projections, MLP,
    attention."""
    return float(block_numbers(facts).mean()) + 2 * keys * attention_width(facts)


def best_sequence(facts: ModelFacts, fixed: int) -> int:
    """Length of a sequence, of which ``fixed`` tokens are the clean run, that costs least a copy token.

    n tokens cost n (a + b n) in a block, in units of work. The x tokens of a layer sweep join evenly, so block l of L
    runs over fixed + x l / L of them; the sum over blocks, divided by x, is least at x = sqrt(3 (fixed a / b +
    fixed^2)).
    """
    a, b = token_work(facts, 0), token_work(facts, 1) - token_work(facts, 0)
    best = fixed + math.sqrt(3 * (fixed * a / b + fixed**2))
    return int(min(max(best, 128), 8192))


def ways_of(group: Group, size: Size, facts: ModelFacts, engine: str, budget: Budget) -> list[EngineKind]:
    """The way in which each copy is computed. engine: a way, or auto for the one of least work.

    A copy that has nothing to compute goes with those that share the clean run.
    """
    if engine == "rows" or not facts.packs:
        return ["rows"] * len(group.copies)
    if engine == "wavefront":
        return ["wavefront"] * len(group.copies)
    row = size.prompt * token_work(facts, size.prompt) * facts.layers  # a lending run is another
    dense = token_work(facts, best_sequence(facts, size.prompt))
    sparse = {length: token_work(facts, size.prompt + length) for length in set(size.copies)}
    ways: list[EngineKind] = []
    for copy, length in zip(group.copies, size.copies, strict=True):
        runs = runs_of(copy)
        inside = sparse[length] if budget.sparse else dense
        work = length * inside * (facts.layers - min(map(first_block, runs)))
        ways.append("rows" if work > row * len(runs) else "wavefront")
    return ways


def packs_of(group: Group, facts: ModelFacts, engine: str, budget: Budget) -> Iterator[Pack]:
    """The group's packs in order; every (usable prompt, copy) pair is in exactly one."""
    size = size_of(group)
    ways = ways_of(group, size, facts, engine, budget)
    for way in dict.fromkeys(ways):
        chosen = [c for c, one in enumerate(ways) if one == way]
        for copies in _copy_sets(chosen, group.copies, size, facts, way, budget):
            yield from _over_prompts(group, copies, size, facts, way, budget)


def _over_prompts(
    group: Group, copies: tuple[int, ...], size: Size, facts: ModelFacts, way: EngineKind, budget: Budget
) -> Iterator[Pack]:
    """The packs of these copies: as many prompts at once as the budget allows."""
    own = [size.copies[c] for c in copies]
    reads = (len(copies) + 1) * size.answers * facts.vocab
    prompts, together = len(size.order), 1
    donors = len(group.donors) * size.prompt
    if way == "rows":
        tokens = size.prompt * (1 + sum(len(runs_of(group.copies[c])) for c in copies if size.copies[c])) + donors
        at_once = budget.at_once // tokens
    else:
        tokens = size.prompt - size.prefix + sum(own)
        if size.prefix:
            room = max(best_sequence(facts, size.prefix), size.prefix + tokens)
            together = max(1, min((room - size.prefix) // tokens, prompts, budget.reads(reads)))
        at_once = together * (budget.at_once // (size.prefix + together * (tokens + donors)))
    at_once = max(1, min(at_once, budget.reads(reads)))
    at_once -= at_once % together if at_once > together else 0
    for start in range(0, prompts, at_once):
        yield Pack(group.id, size.order[start : start + at_once], copies, way, min(together, at_once))


def _copy_sets(
    chosen: Sequence[int], copies: Sequence[Counterfactual], size: Size, facts: ModelFacts, way: EngineKind,
    budget: Budget,
) -> Iterator[tuple[int, ...]]:  # fmt: skip
    """Consecutive copies whose suffixes fit one sequence (one batch, as rows)."""
    if way == "rows" or budget.sparse:
        limit = budget.tokens
    else:
        limit = min(max(best_sequence(facts, size.prompt), 2 * size.prompt), max(budget.tokens, size.prompt))
    taken: list[int] = []
    used = size.prompt
    for c in chosen:
        length = size.copies[c]
        cost = size.prompt * len(runs_of(copies[c])) if way == "rows" and length else length
        if taken and used + cost > limit:
            yield tuple(taken)
            taken, used = [], size.prompt
        taken.append(c)
        used += cost
    if taken:
        yield tuple(taken)


def halved(pack: Pack, times: int) -> list[Pack]:
    """The same pairs in up to 2 ** times packs: fewer prompts each, or, of a single prompt, fewer copies."""
    if times == 0:
        return [pack]
    prompts, copies = pack.prompts, pack.copies
    if len(prompts) > 1:
        middle = len(prompts) // 2
        halves = [
            replace(pack, prompts=part, together=min(pack.together, len(part)))
            for part in (prompts[:middle], prompts[middle:])
        ]
    elif len(copies) > 1:
        halves = [replace(pack, copies=part) for part in (copies[: len(copies) // 2], copies[len(copies) // 2 :])]
    else:
        return [pack]
    return [small for half in halves for small in halved(half, times - 1)]
