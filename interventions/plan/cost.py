"""What a run computes, counted from its plan before it starts."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass

from patchboard.plan.bounds import bounds
from patchboard.plan.guardedness import group_of, usable
from patchboard.plan.learning_cost import learning_cost
from patchboard.plan.model import ModelPlan
from patchboard.plan.pack_cost import activation_floats, packs_cost
from patchboard.plan.packs import Budget, packs_of
from patchboard.plan.probe_fits import probe_fits
from patchboard.plan.screen import largest_plan, screened_cells
from patchboard.plan.screen_passes import screen_passes
from patchboard.plan.shown import most_kept, top_bytes
from patchboard.plan.texts import text_cost
from patchboard.plan.whole_prompts import whole_prompts


@dataclass(frozen=True)
class Cost:
    """Exact counts of forwards and tokens, padding left out but in ``flops``; fits and CD included.

    token_layers: tokens times the blocks that each goes through. bound: the least that any exact method
    computes, the clean prompts once and each counterfactual token only in blocks after its edit (docs/architecture.md,
    Packed execution). flops: of all that these token-layers stand for, attention and read-outs too, as arrays are
    (``pass_work``): with padding, and with pairs of tokens that a mask shuts. bound_flops: the least (``bounds``).
    loop: one whole forward pass for each prompt and copy, as a hand-written sweep does it; fit and CD prompts count
    alike in all of them.
    """

    cells: int = 0
    queries: int = 0
    packs: int = 0
    forwards: int = 0
    tokens: int = 0
    token_layers: int = 0
    bound: int = 0
    flops: int = 0
    bound_flops: int = 0
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
        total.update(packs_cost(group, packs, plan.facts, budget))
        total.update(bounds(group, plan.facts))
        everything = range(len(group.prompts)), range(len(group.copies))
        total.update(top_tokens=most_kept(group, *everything), top_token_bytes=top_bytes(group, *everything))
    guarded = _guarded_cost(plan, engine, budget)
    for training in plan.trainings:
        total.update(learning_cost(training, plan.facts, engine, budget))
    twins = [decoding for decoding in plan.decodings if decoding.section.twin]
    by_twin = whole_prompts(twins, plan.facts, budget)
    whole = (whole_prompts((*plan.fits, *plan.decodings), plan.facts, budget), by_twin)
    tokens, passes = (sum(getattr(each, name) for each in whole) for name in ("tokens", "passes"))
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
        flops=total["flops"] + sum(each.flops for each in whole) + guarded["flops"],
        bound_flops=total["bound_flops"] + sum(each.bound_flops for each in whole) + guarded["bound_flops"],
        loop_forwards=total["loop_forwards"] + guarded["loop_forwards"],
        loop_token_layers=total["loop_token_layers"] + tokens * layers + guarded["loop_token_layers"],
        activation_gb=round(activation_floats(plan.facts, budget) * 4 / 2**30, 3),
        twin_tokens=by_twin.tokens,
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
            total.update(packs_cost(group, packs, plan.facts, budget))
            total.update(bounds(group, plan.facts))
        if guarding.only == "correct":  # they are asked again which are answered rightly
            asked = whole_prompts([fit for fit in plan.fits if fit.id == guarding.fit], plan.facts, budget)
            work = asked.tokens * plan.facts.layers
            total.update(tokens=asked.tokens, passes=asked.passes, token_layers=work, bound=work)
            total.update(loop_token_layers=work, flops=asked.flops, bound_flops=asked.bound_flops)
    return total
