"""Path patching as edits: receivers are given the states of a run in which the sender is another and the rest held."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from patchboard.errors import SpecError
from patchboard.plan.cells import LENT_STATE, OWN_STATE, Edit, Lender
from patchboard.plan.context import Context
from patchboard.plan.edit_sites import EditSite, EditSites
from patchboard.plan.facts import ModelFacts
from patchboard.plan.planned_edits import PlannedEdit, planned_edit
from patchboard.spec.edits import EditSection, InterventionSection
from patchboard.spec.head_pairs import parse_pairs
from patchboard.spec.layers import parse_layers
from patchboard.spec.path_patching import ReceiverSection
from patchboard.spec.sites import HEADED, SITES

_FROZEN = {"none": (), "heads": ("attn_out",), "heads+mlps": ("attn_out", "mlp_out")}

_LAST = json.dumps("last")
_Place = tuple[int, int]
"""(block, rank of the site in it), in the order of a forward pass."""


def planned_edits(
    section: EditSection, sites: Sequence[EditSite], label: str, context: Context, where: str,
    known: dict[EditSite, PlannedEdit],
) -> tuple[PlannedEdit, ...]:  # fmt: skip
    """All edits of a section at these sites: one a site; of ``path`` one a receiver, given states of one run. known:
    those of single sites that were made before in this context, to which new ones are added."""
    if section.sender is None:
        for site in sites:
            if site not in known:
                known[site] = planned_edit(section, site, label, context, where)
        return tuple(known[site] for site in sites)
    senders = [planned_edit(section.made, site, label, context, f"{where}.sender").edit for site in sites]
    first = min(map(_place, senders))
    receivers = [edit for edit in receivers_of(section, context.facts, where) if _place(edit) > first]
    if not receivers:
        what = f"is at layer {first[0]} {SITES[first[1]]}, and all receivers come before"
        raise SpecError(f"{where}.sender", what, "leave that layer out, or name later receivers")
    if len({edit.layer for edit in senders}) > 1 and senders[0].site in _PARTS and senders[0].site != "head":
        what = f"{senders[0].site} of several layers sends, and the rest of those layers cannot be held beside it"
        raise SpecError(f"{where}.sender.layers", what, "send from one layer a cell, or from site head or attn_out")
    lender = Lender(tuple(senders), frozen_edits(section, senders, receivers, context.facts))
    return tuple(PlannedEdit(replace(edit, lender=lender), None) for edit in receivers)


def is_behind_receivers(section: InterventionSection, sites: EditSites, facts: ModelFacts, where: str) -> bool:
    """Whether these senders are of the layers that ``layers: all`` leaves out, having no receiver after them."""
    if section.sender is None or section.sender.layers != "all":
        return False
    last = max(map(_place, receivers_of(section.parts[0], facts, where)))
    rank = SITES.index(section.sender.site)
    return all((layer, rank) >= last for (own,) in [sites.of_edits] for layer, _ in own)


def receivers_of(section: EditSection, facts: ModelFacts, where: str) -> tuple[Edit, ...]:
    """The receivers' edits, not told yet whose states they take. Raises SpecError for what the model has not."""
    edits: dict[Edit, None] = {}
    for i, receiver in enumerate(section.receivers or [ReceiverSection()]):
        at = f"{where}.receivers[{i}]"
        if receiver.site not in facts.sites:
            what = f"there is no site '{receiver.site}' in family '{facts.family}'"
            raise SpecError(f"{at}.site", what, f"choose one of {', '.join(facts.sites)}")
        for layer, head in _blocks_and_heads(receiver, facts, at):
            position = json.dumps(receiver.position)
            edits[Edit("path", receiver.site, layer, position, 1.0, LENT_STATE, head=head)] = None
    return tuple(edits)


def _blocks_and_heads(receiver: ReceiverSection, facts: ModelFacts, at: str) -> list[EditSite]:
    if receiver.site not in HEADED:
        layer = -1 if receiver.layer is None else receiver.layer
        return [(block, -1) for block in parse_layers(layer, facts.layers, f"{at}.layer")]
    return list(parse_pairs(receiver.heads or [], facts.layers, facts.heads_at(receiver.site), f"{at}.heads"))


def frozen_edits(
    section: EditSection, senders: Sequence[Edit], receivers: Sequence[Edit], facts: ModelFacts
) -> tuple[Edit, ...]:
    """Edits that put the clean run's attention (and MLP) outputs back, behind the first sender and before the last
    receiver; where later heads send too, all other heads of their layers.

    """
    position = _held_tokens(senders, receivers)
    first, last = min(map(_place, senders)), max(map(_place, receivers))
    sent = {(edit.layer, edit.site, edit.head) for edit in senders}
    held: list[tuple[int, str, int]] = []
    for layer in range(first[0], last[0] + 1):
        for site in _FROZEN[section.frozen or "heads"]:
            if not _between(first, (layer, SITES.index(site)), last):
                continue
            by_head = site == "attn_out" and any((layer, "head", head) in sent for head in range(facts.heads))
            held += [(layer, "head", head) for head in range(facts.heads)] if by_head else [(layer, site, -1)]
    return tuple(
        Edit("patch", site, layer, position, 1.0, OWN_STATE, head=head)
        for layer, site, head in held
        if (layer, site, head) not in sent
    )


def _held_tokens(senders: Sequence[Edit], receivers: Sequence[Edit]) -> str:
    """The receivers' tokens alone: with attention held, nothing that other tokens hold reaches them any more. But a
    receiver that gathers by attention itself gathers from all tokens that the senders may have changed."""
    gathers = any(edit.site in ("head", "attn_out") for edit in receivers)
    if gathers and any(edit.position != _LAST for edit in senders):
        return json.dumps(["all", "answer"])
    named = [json.loads(edit.position) for edit in receivers]
    names = dict.fromkeys(name for one in named for name in (one if isinstance(one, list) else [one]))
    return json.dumps(next(iter(names)) if len(names) == 1 else list(names))


def _between(first: _Place, place: _Place, last: _Place) -> bool:
    """Whether what is computed at ``place`` takes the sender's change up and hands it on to a receiver.

    A sender inside attention is part of that block's attention output, which therefore goes on; so of one in the MLP.
    """
    inside = {SITES.index(site): SITES.index(out) for site, out in _PARTS.items()}
    return place > (first[0], inside.get(first[1], first[1])) and place < last


_PARTS = {**dict.fromkeys(HEADED, "attn_out"), "mlp_pre": "mlp_out", "mlp_act": "mlp_out"}
"""Site -> the output that it is a part of."""


def _place(edit: Edit) -> _Place:
    return edit.layer, SITES.index(edit.site)
