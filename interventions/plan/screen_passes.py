"""How many passes a screen takes, and how many prompts share one: a backward pass needs all blocks' states at once."""

from __future__ import annotations

from patchboard.plan.cells import source_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.screen import screened_cells
from patchboard.plan.suffix import clean_tokens


def pass_prompts(group: Group, plan: ModelPlan, most: int) -> int:
    """Prompts of the group that share a pass forwards and backwards. most: numbers that it may hold, a pack's."""
    rows, longest = rows_of_prompt(group, plan), _longest(group)
    floats = rows * longest * token_floats(plan.facts, longest) + rows * plan.facts.vocab
    return max(1, most // floats)


def rows_of_prompt(group: Group, plan: ModelPlan) -> int:
    """Sequences that a prompt takes: itself, each of its sources, and the points between."""
    section = plan.screen
    sources = {source_of(group.uses[number].cell.edits[0]) for number in screened_cells(group)}
    steps = section.steps if section is not None and section.method == "integrated_gradients" else 0
    return 1 + len(sources) * (1 + steps)


def screen_passes(group: Group, plan: ModelPlan, most: int) -> tuple[int, int]:
    """(passes forwards and backwards, about how many tokens in them) of the group. most: as of ``pass_prompts``."""
    if not screened_cells(group):
        return 0, 0
    tokens = sum(len(clean_tokens(prompt)) for prompt in group.prompts if not prompt.excluded)
    passes = -(-len(group.prompts) // pass_prompts(group, plan, most))
    return passes, tokens * rows_of_prompt(group, plan)


def _longest(group: Group) -> int:
    prompts = [*group.prompts, *(donor for donors in group.donors.values() for donor in donors)]
    return max((len(clean_tokens(prompt)) for prompt in prompts if not prompt.excluded), default=1)


def token_floats(facts: ModelFacts, keys: int) -> int:
    """Numbers that a token leaves in all blocks until the backward pass has met them: of the stream, norms, queries,
    keys, values and the attention's output some widths, of the MLP a few more, and its weights of attention."""
    return facts.layers * (12 * facts.width + 4 * facts.inside + 2 * facts.heads * keys)
