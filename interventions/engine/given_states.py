"""States of other runs as operands by name: read in a pass of these runs, which may be of any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from patchboard.engine.batch import Capture, put
from patchboard.engine.local import LocalEngine
from patchboard.plan.cells import Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.spec.sites import HEADED
from patchboard.tasks.prompt import Prompt


class Wanted(NamedTuple):
    """An edit that puts in states, and the tokens of an unedited prompt where these stand."""

    edit: Edit
    donor: Prompt
    tokens: tuple[int, ...]


def given_states(engine: LocalEngine, wanted: Sequence[Wanted]) -> list[Tensor]:
    """Of each the states [token, width] float32 that it puts in: of a head its part, of neurons those edited."""
    donors = list({id(each.donor): each.donor for each in wanted}.values())
    if not donors:
        return []
    row = {id(donor): i for i, donor in enumerate(donors)}
    captures = []
    for edit, donor, tokens in wanted:
        layer, site = (edit.read.layer, edit.read.site) if edit.read else (edit.layer, edit.site)
        count = len(tokens)
        captures.append(
            Capture(site, (layer,), put([row[id(donor)]] * count), put(tokens), put(range(count)), count)
        )  # fmt: skip
    layout = lay_out(donors, [-1] * len(donors), [Counterfactual()], "rows")
    _, result = engine.forward(layout, {}, {}, captures)
    return [_part(states, each.edit, engine) for (states,), each in zip(result["states"], wanted, strict=True)]


def _part(states: Tensor, edit: Edit, engine: LocalEngine) -> Tensor:
    if edit.site in HEADED:
        return states.unflatten(-1, (-1, engine.wiring.head_dim))[:, edit.head]
    return states[:, list(edit.neurons)] if edit.neurons else states
