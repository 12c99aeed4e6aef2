"""Which queries a run's page shows, known before the run: of a large one every nth, so that a page stays small.

Where the likeliest tokens of these are kept, plan.json tells the page which they are; else it goes by the rows that
there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from patchboard.errors import SpecError
from patchboard.plan.model import Group, ModelPlan
from patchboard.plan.screen import largest_plan

MOST_VALUES = 2_000_000
"""Values of single queries that a page holds, at most 6 MB; a kept token counts as one."""


def every_nth(values: int) -> int:
    """Of how many queries one is shown. values: of all of them in interventions' own cells."""
    return max(1, -(-values // MOST_VALUES))


def with_top_tokens(plans: Sequence[ModelPlan], count: int) -> list[ModelPlan]:
    """The plans of a run, in which so many tokens are kept of what its page shows. A screen's choice is not known
    before, but how many cells it leaves is. Raises SpecError where a model knows fewer tokens."""
    if not count:
        return list(plans)
    fewest = min(plan.facts.vocab for plan in plans)
    if count > fewest:
        what = f"found {count}, the model knows {fewest} tokens"
        raise SpecError("outcomes.top_tokens", what, f"use at most {fewest}")
    groups = [group for plan in plans for group in largest_plan(plan).groups]
    step = every_nth(sum(len(group.prompts) * _values_of_a_query(group, count) for group in groups))
    return [
        replace(plan, groups=tuple(replace(group, top_tokens=count, every=step) for group in plan.groups))
        for plan in plans
    ]


def _values_of_a_query(group: Group, tokens: int) -> int:
    """In all cells: a value a metric, and so many tokens."""
    own = [use for use in group.uses if not use.cell.control]
    return len(own) * (len(group.metrics) + tokens) + sum(bool(use.cell.converts_to) for use in own)


def _own(group: Group) -> list[int]:
    return [use.patched for use in group.uses if not use.cell.control]


def shown_copies(group: Group) -> list[int]:
    """The copies whose distributions are kept: those of interventions' own cells, and the clean run."""
    own = _own(group)
    return sorted({0, *own}) if group.top_tokens and own else []


def most_kept(group: Group, prompts: Sequence[int], copies: Sequence[int]) -> int:
    """Distributions of these prompts and copies that are kept, at most: a copy may not be made of every prompt."""
    queries = sum(not group.prompts[query].excluded for query in prompts if query % group.every == 0)
    return queries * len(set(shown_copies(group)) & set(copies))


def top_bytes(group: Group, prompts: Sequence[int], copies: Sequence[int]) -> int:
    """Bytes of their numbers: ids and log-probabilities of tokens, the answer's log-probability and rank."""
    return most_kept(group, prompts, copies) * 8 * (group.top_tokens + 1)


def kept_answers(group: Group, query: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """[answer] bool: of which answers the likeliest tokens are kept. query, copy [answer]: indices in the group."""
    return np.isin(copy, shown_copies(group)) & (query % group.every == 0)
