"""Which prompts and copies share a forward pass, and what a run costs, all before weights are loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from interventions.plan.model import Group, ModelFacts, ModelPlan, Pack
from interventions.plan.packing import suffix_of

TOKENS = 8192
"""Tokens computed together at most; beyond a few thousand, larger batches are no faster on any device."""
SEQUENCE = 2048
"""Longest packed sequence, unless a single prompt with one copy is longer: attention costs its square."""
READ_FLOATS = 1 << 25
"""Logits (read x vocab) held at once: 128 MiB in float32."""


@dataclass(frozen=True)
class Size:
    """Lengths that decide a group's packs: of a prompt with its answer, and of each copy's suffix."""

    prompt: int
    copies: tuple[int, ...]
    answers: int


def size_of(group: Group) -> Size:
    """The largest of each length over the group's prompts."""
    prompt, answers = 1, 1
    copies = [0] * len(group.copies)
    for p in group.prompts:
        if p.excluded:
            continue
        prompt = max(prompt, len(p.token_ids) + len(p.answer_ids) - 1)
        answers = max(answers, len(p.answer_ids), *map(len, p.alternatives.values()))
        for c, copy in enumerate(group.copies):
            suffix = suffix_of(p, copy)
            if suffix is not None:
                copies[c] = max(copies[c], len(suffix.tokens) - suffix.start)
    return Size(prompt, tuple(copies), answers)


def packs_of(group: Group, size: Size, vocab: int, packed: bool) -> Iterator[Pack]:
    """The group's packs in order; every (prompt, copy) pair is in exactly one."""
    for copies in _copy_ranges(size, packed):
        chosen = size.copies[copies.start : copies.stop]
        if packed:
            tokens = size.prompt + sum(chosen)
        else:
            tokens = size.prompt * (1 + sum(length > 0 for length in chosen))
        reads = (len(chosen) + 1) * size.answers * vocab
        together = max(1, min(TOKENS // tokens, READ_FLOATS // reads))
        for start in range(0, len(group.prompts), together):
            yield Pack(group.id, range(start, min(start + together, len(group.prompts))), copies)


def _copy_ranges(size: Size, packed: bool) -> Iterator[range]:
    """Consecutive copies whose suffixes fit one sequence (packed) or one batch (rows)."""
    limit = max(SEQUENCE, 2 * size.prompt) if packed else TOKENS
    start, used = 0, size.prompt
    for c, length in enumerate(size.copies):
        cost = length if packed else (size.prompt if length else 0)
        if c > start and used + cost > limit:
            yield range(start, c)
            start, used = c, size.prompt
        used += cost
    yield range(start, len(size.copies))


@dataclass(frozen=True)
class Cost:
    """What a run computes, counted before it starts.

    token_layers: tokens times blocks. bound: the least that any exact method computes, the clean
    prompts once and each counterfactual token only in blocks after its edit (DESIGN, section 3).
    loop: one whole forward pass for each prompt and copy, as a hand-written sweep does it; fit and CD
    prompts count alike in all of them.
    """

    cells: int = 0
    queries: int = 0
    packs: int = 0
    forwards: int = 0
    tokens: int = 0
    token_layers: int = 0
    bound: int = 0
    loop_forwards: int = 0
    loop_token_layers: int = 0
    activation_gb: float = 0.0

    def as_dict(self) -> dict[str, float]:
        return asdict(self) | {"saving": round(self.loop_token_layers / max(1, self.token_layers), 1)}


def cost_of(plan: ModelPlan, packed: bool) -> Cost:
    """Exact counts of forwards and tokens (padding left out) of the evaluated part, fits and CD included."""
    layers = plan.facts.layers
    total = dict.fromkeys(
        ("cells", "queries", "packs", "tokens", "token_layers", "bound", "loop_forwards", "loop_token_layers"), 0
    )
    for group in plan.groups:
        size = size_of(group)
        packs = list(packs_of(group, size, plan.facts.vocab, packed))
        total["packs"] += len(packs)
        total["cells"] += len(group.uses)
        total["queries"] += len(group.prompts)
        ranges = {(p.copies.start, p.copies.stop) for p in packs}
        for prompt in group.prompts:
            if prompt.excluded:
                continue
            clean = len(prompt.token_ids) + len(prompt.answer_ids) - 1
            tokens = clean * len(ranges)
            total["bound"] += clean * layers
            seen = set()
            for copy in group.copies:
                suffix = suffix_of(prompt, copy)
                if suffix is None or (copy.edits, suffix.tokens) in seen:
                    continue
                seen.add((copy.edits, suffix.tokens))
                own = len(suffix.tokens) - suffix.start
                tokens += own if packed else (len(suffix.tokens) if own else 0)
                first = min((edit.layer + (edit.site == "resid_post") for edit in copy.edits), default=0)
                total["bound"] += own * (layers - first)
                total["loop_forwards"] += 1
                total["loop_token_layers"] += len(suffix.tokens) * layers
            total["tokens"] += tokens
            total["token_layers"] += tokens * layers
    extra = [list(part.prompts.values()) for part in (*plan.fits, *plan.decodings)]
    prompts = [p for sets in extra for rows in sets for p in rows if not p.excluded]
    tokens = sum(len(p.token_ids) + len(p.answer_ids) - 1 for p in prompts)
    return Cost(
        **{k: v for k, v in total.items() if k not in ("tokens", "token_layers", "bound", "loop_token_layers")},
        forwards=total["packs"] + sum(-(-len(rows) * _mean_length(rows) // TOKENS) for sets in extra for rows in sets),
        tokens=total["tokens"] + tokens,
        token_layers=total["token_layers"] + tokens * layers,
        loop_token_layers=total["loop_token_layers"] + tokens * layers,
        bound=total["bound"] + tokens * layers,
        activation_gb=round(_activation_floats(plan.facts) * 4 / 2**30, 3),
    )


def _mean_length(rows: tuple) -> int:
    return max((len(p.token_ids) + len(p.answer_ids) for p in rows), default=0)


def _activation_floats(facts: ModelFacts) -> int:
    """Largest arrays of one pack: a few hidden states of TOKENS tokens, one mask, the logits read."""
    return 12 * TOKENS * facts.width + 2 * TOKENS * SEQUENCE + 3 * READ_FLOATS
