"""Whether a copy can be computed for a prompt: its own tokens, and those of the prompts whose states it takes."""

from __future__ import annotations

from patchboard.plan.cells import source_of
from patchboard.plan.model import Counterfactual, Group
from patchboard.plan.suffix import suffix_of
from patchboard.plan.unit import read_positions


def is_computed(group: Group, copy: Counterfactual, i: int) -> bool:
    """Whether the copy is computed for the i-th prompt of the group."""
    suffix = suffix_of(group.prompts[i], copy)
    if suffix is None:
        return False
    donors = ((group.donors[source_of(e)][i], e, where) for e, where in suffix.edited if source_of(e))
    return all(
        not donor.excluded and len(read_positions(donor, edit, len(where))) == len(where)
        for donor, edit, where in donors
    )
