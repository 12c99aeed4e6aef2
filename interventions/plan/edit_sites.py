"""Which blocks and heads the edits of an intervention's cells are made at, in a known model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from patchboard.errors import SpecError
from patchboard.plan.facts import ModelFacts
from patchboard.plan.ranking import kept_heads
from patchboard.spec.axes import Variant
from patchboard.spec.edits import EditSection
from patchboard.spec.head_pairs import parse_pairs
from patchboard.spec.layers import parse_layers
from patchboard.spec.places import Onwards, Together, Upto
from patchboard.spec.sites import HEADED, NEURAL
from patchboard.spec.vectors import VectorSection

EditSite = tuple[int, int]
"""(block, head), head -1 where none is meant."""


@dataclass(frozen=True)
class EditSites:
    """The blocks and heads of one cell: those of each of its edits."""

    of_edits: list[list[EditSite]]
    layer: int
    """Where the cell stands on the axis of layers: the earliest block; of ``upto`` the last one."""


def edit_sites_of(variant: Variant, facts: ModelFacts) -> Iterator[EditSites]:
    """For each cell of the variant, the blocks and heads of each of its edits."""
    section, made = variant.section, [_made(edit, where) for where, edit in variant.located_edits]
    if section.edits is not None:
        of_edits = [
            [(layer, head) for layers in _sets_of(e, facts, at) for layer in layers for head in _heads_of(e, facts, at)]
            for e, at in made
        ]
        yield EditSites(of_edits, min(layer for sites in of_edits for layer, _ in sites))
        return
    ((edit, where),) = made
    if section.keep is not None:
        heads = components_of(edit, facts, where)
        kept = kept_heads(section.keep, heads, (facts.layers, facts.heads), where)
        yield EditSites([[site for site in heads if site not in kept]], min(layer for layer, _ in heads))
        return
    for head in _heads_of(edit, facts, where):
        for layers in _sets_of(edit, facts, where):
            place = max(layers) if isinstance(edit.layers, Upto) else min(layers)
            yield EditSites([[(layer, head) for layer in layers]], place)


def _made(edit: EditSection, where: str) -> tuple[EditSection, str]:
    """The edit whose sites are meant, and where it stands: of path patching the sender."""
    return edit.made, where if edit.sender is None else f"{where}.sender"


def components_of(edit: EditSection, facts: ModelFacts, where: str) -> tuple[EditSite, ...]:
    """All heads at which an edit of single layers may be made, by layer: those of which ``keep`` keeps some."""
    heads = _heads_of(edit, facts, where)
    return tuple((layer, head) for (layer,) in sorted(_sets_of(edit, facts, where)) for head in sorted(heads))


def _sets_of(edit: EditSection, facts: ModelFacts, where: str) -> list[tuple[int, ...]]:
    """The blocks of each cell of an edit that stands alone; one set of them for an edit among several."""
    layers, at = edit.layers, f"{where}.layers"
    if isinstance(layers, Together):
        return [parse_layers(layers.together, facts.layers, f"{at}.together")]
    if isinstance(layers, Onwards):
        first = parse_layers(layers.onwards, facts.layers, f"{at}.onwards")
        return [tuple(range(block, facts.layers)) for block in first]
    if isinstance(layers, Upto):
        last = parse_layers(layers.upto, facts.layers, f"{at}.upto")
        return [tuple(range(block + 1)) for block in last]
    return [(block,) for block in parse_layers(layers, facts.layers, at)]


def _heads_of(edit: EditSection, facts: ModelFacts, where: str) -> tuple[int, ...]:
    """Raises SpecError for a site that the model's family lacks, or heads that it has not."""
    if edit.edges is not None:
        if "head" not in facts.sites or not facts.packs:
            what = f"attention in this model of family '{facts.family}' takes no mask of edges"
            raise SpecError(f"{where}.op", what, "use another model, or zero with site: attn_out")
        return (-1,)
    if edit.site not in facts.sites:
        what = f"there is no site '{edit.site}' in family '{facts.family}'"
        raise SpecError(f"{where}.site", what, f"choose one of {', '.join(facts.sites)}")
    if edit.site not in HEADED:
        return (-1,)
    unit = "key-value head" if facts.heads_at(edit.site) != facts.heads else "head"
    return parse_layers(edit.heads, facts.heads_at(edit.site), f"{where}.heads", unit)


def cut_heads_of(edit: EditSection, facts: ModelFacts, where: str) -> tuple[int, ...]:
    """The heads in which edges are cut together, none where all are. Raises SpecError for one that there is not."""
    if edit.edges is None or edit.heads == "all":
        return ()
    return parse_layers(edit.heads, facts.heads, f"{where}.heads", "head")


def neurons_of(edit: EditSection, facts: ModelFacts, where: str) -> tuple[int, ...]:
    """The neurons that a cell edits together, none where all are. Raises SpecError for one that there is not."""
    if edit.site not in NEURAL or edit.neurons == "all":
        return ()
    return parse_layers(edit.neurons, facts.neurons, f"{where}.neurons", "neuron")


def summed_heads(vector: VectorSection, facts: ModelFacts, where: str) -> tuple[EditSite, ...]:
    """The heads whose outputs a function vector sums, none of any other vector.

    Raises SpecError for a family without heads, and for heads that the model has not.
    """
    if vector.heads is None:
        return ()
    if "head" not in facts.sites:
        what = f"there are no attention heads in family '{facts.family}'"
        raise SpecError(f"{where}.vector.function_vector", what, "write mean: … instead, or use another model")
    return parse_pairs(vector.heads, facts.layers, facts.heads, f"{where}.vector.heads")
