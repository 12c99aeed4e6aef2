"""random_heads: as many heads kept, whichever they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from patchboard.errors import SpecError
from patchboard.plan.controls.base import CONTROLS, Control, ControlCell, LineStyle, PlacedIntervention
from patchboard.plan.controls.random import Draws
from patchboard.plan.edit_sites import EditSites, components_of
from patchboard.spec.axes import Variant
from patchboard.spec.section import Section


@CONTROLS.register("random_heads")
class RandomHeads(Control):
    """of `keep`: as many heads kept, the first of a random order in place of the ranking. `draws` independent
    orders."""

    phrase = "as many random heads kept"
    overlap = "any heads may do as much"
    line = LineStyle("#009E73", "-.", "s")
    Options = Draws

    @classmethod
    def check(cls, variants: Sequence[Variant], tasks: Sequence[str], where: str) -> None:
        if variants and not any(variant.section.keep for variant in variants):
            raise SpecError(where, "random_heads needs an intervention with keep, there is none", "leave it out")

    @classmethod
    def cells(cls, placed: PlacedIntervention, options: Section) -> Iterator[ControlCell]:
        assert isinstance(options, Draws)
        if placed.variant.section.keep is None:
            return
        ((where, section),) = placed.variant.located_edits
        heads = components_of(section, placed.context.facts, where)
        (edited,) = placed.sites.of_edits
        for draw in range(options.draws):
            order = np.random.default_rng(draw).permutation(len(heads))[len(heads) - len(edited) :]
            sites = EditSites([[heads[i] for i in sorted(order.tolist())]], placed.sites.layer)
            edits = replace(placed, sites=sites).edits_in(placed.context)
            yield ControlCell("random_heads", f"{placed.vector_task}~random{draw}", edits, placed.vector_task)
