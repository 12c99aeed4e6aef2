"""What a run computes, counted from its plan before it starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from patchboard.plan.guardedness import group_of, usable
from patchboard.plan.learning_cost import learning_cost
from patchboard.plan.model import Counterfactual, Decoding, Fit, Group, ModelPlan
from patchboard.plan.pack_cost import activation_floats, packs_cost
from patchboard.plan.packs import Budget, packs_of
from patchboard.plan.probe_fits import probe_fits
from patchboard.plan.screen import largest_plan, screened_cells
from patchboard.plan.screen_passes import screen_passes
from patchboard.plan.shown import most_kept, top_bytes
from patchboard.plan.suffix import Shape, branch_tokens, clean_tokens, first_block, shape_of, suffix_of
from patchboard.plan.texts import text_cost
from patchboard.tasks.prompt import Prompt


@dataclass(frozen=True)
class Cost:
    """Exact counts of forwards and tokens, padding left out; fits and CD included.

    token_layers: tokens times the blocks that each goes through. bound: the least that any exact method
    computes, the clean prompts once and each counterfactual token only in blocks after its edit (docs/architecture.md,
    Packed execution). loop: one whole forward pass for each prompt and copy, as a hand-written sweep does it; fit
    and CD prompts count alike in all of them.
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
    twin_tokens: int = 0
    """Of ``tokens``, those of the untrained twin."""
    guarded_tokens: int = 0
    """Of ``tokens``, those of prompts on whose states probes are fitted after edits. Where states are too many to
    be held at once the unedited runs are computed a few times, which is not counted."""
    probe_fits: int = 0
    """Classifiers that are fitted on states, on this machine's processor."""
    screened: int = 0
    """Cells that a screen estimates. Which of them are run is not known before, so all other counts are of as many as
    will be run, as if it were those of most work."""
    screen_passes: int = 0
    """Of ``forwards``, those of the screen, which go backwards too."""
    screen_tokens: int = 0
    """In these passes, beside ``tokens``."""
    learned: int = 0
    """Vectors that are learned through the model."""
    learning_passes: int = 0
    """Of ``forwards``, those of learning, if every vector takes all of its steps; those of steps go backwards too."""
    learning_tokens: int = 0
    """In these passes, beside ``tokens``."""
    learning_token_layers: int = 0
    """The same beside ``token_layers``."""
    ways: tuple[tuple[str, int], ...] = ()
    """Packs in each way."""
    texts: int = 0
    """That are written, edited and unedited ones. Passes, tokens and token-layers are beside all others, and at most as
    many: a text may end before."""
    text_passes: int = 0
    text_tokens: int = 0
    text_token_layers: int = 0
    top_tokens: int = 0
    """Distributions of which the likeliest tokens are kept, at most."""
    top_token_bytes: int = 0
    """Of their numbers, before they are compressed."""

    def as_dict(self) -> dict[str, object]:
        saving = round(self.loop_token_layers / max(1, self.token_layers), 1)
        counts = asdict(self) | {"ways": dict(self.ways), "saving": saving}
        left_out = {name for name in ("twin_tokens", "guarded_tokens", "probe_fits") if not counts[name]}
        left_out |= set() if self.learned else set(_OF_LEARNING)
        left_out |= set() if self.screened else {"screened", "screen_passes", "screen_tokens"}
        left_out |= set() if self.texts else {"texts", "text_passes", "text_tokens", "text_token_layers"}
        left_out |= set() if self.top_tokens else {"top_tokens", "top_token_bytes"}
        return {name: value for name, value in counts.items() if name not in left_out}


_OF_LEARNING = ("learned", "learning_passes", "learning_tokens", "learning_token_layers")


def cost_of(plan: ModelPlan, engine: str, budget: Budget) -> Cost:
    """The plan's cost under an engine: auto, or the way of all packs."""
    layers, total = plan.facts.layers, Counter[str]()
    ways: Counter[str] = Counter()
    if plan.screen is not None:
        for group in plan.groups:
            passes, tokens = screen_passes(group, plan, activation_floats(plan.facts, budget))
            total.update(screened=len(screened_cells(group)), screen_passes=passes, screen_tokens=tokens)
    largest = largest_plan(plan)
    for group in largest.groups:
        packs = list(packs_of(group, plan.facts, engine, budget))
        ways.update(pack.way for pack in packs)
        total.update(packs=len(packs), cells=len(group.uses), queries=len(group.prompts))
        total.update(packs_cost(group, packs, plan.facts))
        total.update(_bounds(group, layers))
        everything = range(len(group.prompts)), range(len(group.copies))
        total.update(top_tokens=most_kept(group, *everything), top_token_bytes=top_bytes(group, *everything))
    guarded = _guarded_cost(plan, engine, budget)
    for training in plan.trainings:
        total.update(learning_cost(training, plan.facts, engine, budget))
    twins = [decoding for decoding in plan.decodings if decoding.section.twin]
    tokens, passes = _whole_prompts((*plan.fits, *plan.decodings), budget)
    twin_tokens, twin_passes = _whole_prompts(twins, budget)
    tokens, passes = tokens + twin_tokens, passes + twin_passes
    texts, text_tokens, text_passes = text_cost(largest, budget)
    return Cost(
        cells=total["cells"],
        queries=total["queries"],
        packs=total["packs"],
        forwards=total["packs"]
        + total["before"]
        + passes
        + total["screen_passes"]
        + guarded["passes"]
        + total["learning_passes"],
        tokens=total["tokens"] + tokens + guarded["tokens"],
        token_layers=total["token_layers"] + tokens * layers + guarded["token_layers"],
        bound=total["bound"] + tokens * layers + guarded["bound"],
        loop_forwards=total["loop_forwards"] + guarded["loop_forwards"],
        loop_token_layers=total["loop_token_layers"] + tokens * layers + guarded["loop_token_layers"],
        activation_gb=round(activation_floats(plan.facts, budget) * 4 / 2**30, 3),
        twin_tokens=twin_tokens,
        guarded_tokens=guarded["tokens"],
        probe_fits=probe_fits(plan),
        screened=total["screened"],
        screen_passes=total["screen_passes"],
        screen_tokens=total["screen_tokens"],
        **{name: total[name] for name in _OF_LEARNING},
        ways=tuple(sorted(ways.items())),
        texts=texts,
        text_passes=text_passes,
        text_tokens=text_tokens,
        text_token_layers=text_tokens * layers,
        top_tokens=total["top_tokens"],
        top_token_bytes=total["top_token_bytes"],
    )


def _guarded_cost(plan: ModelPlan, engine: str, budget: Budget) -> Counter[str]:
    """Counts of the prompts on whose states probes are fitted after edits."""
    total: Counter[str] = Counter()
    for guarding in plan.guardings:
        for label, prompts in guarding.prompts.items():
            group = group_of(guarding, label, usable(prompts), guarding.cells)
            packs = list(packs_of(group, plan.facts, engine, budget))
            total.update(passes=len(packs))
            total.update(packs_cost(group, packs, plan.facts))
            total.update(_bounds(group, plan.facts.layers))
        if guarding.only == "correct":  # they are asked again which are answered rightly
            tokens, passes = _whole_prompts([fit for fit in plan.fits if fit.id == guarding.fit], budget)
            work = tokens * plan.facts.layers
            total.update(tokens=tokens, passes=passes, token_layers=work, bound=work, loop_token_layers=work)
    return total


def _whole_prompts(parts: Sequence[Fit | Decoding], budget: Budget) -> tuple[int, int]:
    """(tokens, passes) of fits and decodings, which run whole prompts."""
    extra = [(list(part.prompts.values()), shots_of(part)) for part in parts]
    sets = [[p for p in rows if not p.excluded] for part, _ in extra for rows in part]
    tokens = sum(len(clean_tokens(p)) for rows in sets for p in rows)
    tokens += sum(
        sum(branch_tokens(p, shots)) for part, shots in extra for rows in part for p in rows if not p.excluded
    )
    return tokens, sum(-(-len(rows) * max(map(_length, rows), default=0) // budget.tokens) for rows in sets)


def shots_of(part: Fit | Decoding) -> Sequence[int]:
    """Numbers of demonstrations at which it is asked whether the prompts are answered rightly."""
    return part.section.shots if isinstance(part, Decoding) else [part.shots]


def _bounds(group: Group, layers: int) -> Counter[str]:
    """The least that the group's cells take, and what a loop of forward passes takes."""
    known: dict[Shape, Counter[str]] = {}
    total: Counter[str] = Counter()
    for prompt in group.prompts:
        shape = shape_of(prompt)
        if not shape:
            continue
        if shape not in known:
            known[shape] = _bounds_of(prompt, group.copies, layers)
        total.update(known[shape])
    donors = [p for prompts in group.donors.values() for p in prompts if not p.excluded]
    total["bound"] += sum(len(clean_tokens(p)) for p in donors) * layers
    if group.prefix:  # computed once for all
        total["bound"] -= (sum(not p.excluded for p in group.prompts) - 1) * group.prefix * layers
    return total


def _bounds_of(prompt: Prompt, copies: Sequence[Counterfactual], layers: int) -> Counter[str]:
    total = Counter(bound=len(clean_tokens(prompt)) * layers)
    seen = set()
    for copy in copies:
        suffix = suffix_of(prompt, copy)
        if suffix is None or (copy.edits, suffix.tokens) in seen:
            continue
        seen.add((copy.edits, suffix.tokens))
        for run, own in ((copy, suffix), *suffix.lent):
            if run is not copy and ("lent", run.edits, own.tokens) in seen:
                continue
            seen.add(("lent", run.edits, own.tokens))
            total["bound"] += own.length * (layers - first_block(run))
            total["loop_forwards"] += 1
            total["loop_token_layers"] += len(own.tokens) * layers
    return total


def _length(prompt: Prompt) -> int:
    return len(prompt.token_ids) + len(prompt.answer_ids)
