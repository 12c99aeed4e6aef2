"""Which blocks and heads the edits of an intervention's cells are made at, in a known model."""

from __future__ import annotations

from collections.abc import Iterator

from interventions.errors import SpecError
from interventions.plan.facts import ModelFacts
from interventions.spec.axes import Variant
from interventions.spec.head_pairs import parse_pairs
from interventions.spec.layers import parse_layers
from interventions.spec.sections import EditSection, Together, VectorSection

Spot = tuple[int, int]
"""(block, head), head -1 where none is meant."""


def spots_of(variant: Variant, facts: ModelFacts, where: str) -> Iterator[list[list[Spot]]]:
    """For each cell of the variant, the blocks and heads of each of its edits."""
    section = variant.section
    if section.edits is not None:
        yield [
            [(layer, head) for layer in _set_of(e, facts, at) for head in _heads_of(e, facts, at)]
            for e, at in ((e, f"{where}.edits[{i}]") for i, e in enumerate(section.edits))
        ]
        return
    (edit,) = section.parts
    for head in _heads_of(edit, facts, where):
        layers = _set_of(edit, facts, where)
        if isinstance(edit.layers, Together):
            yield [[(layer, head) for layer in layers]]
        else:
            yield from ([[(layer, head)]] for layer in layers)


def _set_of(edit: EditSection, facts: ModelFacts, where: str) -> tuple[int, ...]:
    if isinstance(edit.layers, Together):
        return parse_layers(edit.layers.together, facts.layers, f"{where}.layers.together")
    return parse_layers(edit.layers, facts.layers, f"{where}.layers")


def _heads_of(edit: EditSection, facts: ModelFacts, where: str) -> tuple[int, ...]:
    """Raises SpecError for a site that the model's family lacks, or heads that it has not."""
    if edit.site not in facts.sites:
        what = f"there is no site '{edit.site}' in family '{facts.family}'"
        raise SpecError(f"{where}.site", what, f"choose one of {', '.join(facts.sites)}")
    return parse_layers(edit.heads, facts.heads, f"{where}.heads", "head") if edit.site == "head" else (-1,)


def summed_heads(vector: VectorSection, facts: ModelFacts, where: str) -> tuple[Spot, ...]:
    """The heads whose outputs a function vector sums, none of any other vector.

    Raises SpecError for a family without heads, and for heads that the model has not.
    """
    if vector.heads is None:
        return ()
    if "head" not in facts.sites:
        what = f"there are no attention heads in family '{facts.family}'"
        raise SpecError(f"{where}.vector.function_vector", what, "write mean: … instead, or use another model")
    return parse_pairs(vector.heads, facts.layers, facts.heads, f"{where}.vector.heads")
