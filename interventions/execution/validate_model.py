"""Does the spec fit its model? Layers, heads and sites, where the configuration is at hand: no weights, no network."""

from __future__ import annotations

from collections.abc import Iterator

from patchboard.engine.local_config import facts_at_home
from patchboard.plan.edit_sites import edit_sites_of, summed_heads
from patchboard.plan.facts import ModelFacts
from patchboard.plan.feature_edits import feature_fields
from patchboard.spec.axes import Point, Study


def check_on_model(study: Study) -> None:
    """Raises SpecError for a layer, head or site that the model lacks, ModelError for a name that is no model.

    A model whose configuration is not here is passed over.
    """
    known: dict[str, ModelFacts | None] = {}
    for point in study.points:
        key = point.spec.model.model_dump_json()
        if key not in known:
            known[key] = facts_at_home(point.spec.model)
        facts = known[key]
        if facts is not None:
            for _ in _places(point, facts):
                pass


def _places(point: Point, facts: ModelFacts) -> Iterator[object]:
    """Everything that the point's interventions name in the model; to go through it is to check it."""
    for variant in point.variants:
        yield from edit_sites_of(variant, facts)
        for i, (where, edit) in enumerate(variant.located_edits):
            if edit.vector is not None:
                yield summed_heads(edit.vector, facts, where)
                if edit.vector.sae is not None:
                    for sites in edit_sites_of(variant, facts):
                        for layer, _ in sites.of_edits[i]:
                            yield feature_fields(edit, layer, point.spec.model, facts, where)
