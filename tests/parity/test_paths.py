"""Path patching: the runs of Wang et al. 2022, one by one through plain hooks, give the same logits in every family."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import architecture_of
from patchboard.engine.load import facts_of
from patchboard.engine.local import LocalEngine
from patchboard.plan.cells import Edit
from patchboard.plan.context import Context
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.plan.path_patching import planned_edits
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.spec.edits import EditSection
from patchboard.spec.sections import ModelSection
from patchboard.spec.sites import SITES
from patchboard.tasks.prompt import Prompt
from tests.hooks import _attach, _module, hooked_states, part_of
from tests.models import SIZES, random_model, unequal_prompts
from tests.parity.logits import must_equal

TOLERANCE = 1e-5
LAYERS = 4
QUICK = ("llama", "gpt2", "gemma2", "gpt_neox")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(SIZES)]

Path = tuple[tuple[str, list[tuple[int, int]], Any], list[dict], str]
"""Sender (site, its blocks and heads, position), receivers, what is frozen."""

PATHS: dict[str, Path] = {
    "head to logits": (("head", [(1, 2)], "last"), [{}], "heads"),
    "all frozen": (("head", [(1, 2)], "last"), [{}], "heads+mlps"),
    "all follow": (("head", [(0, 1)], "query"), [{}], "none"),
    "mlp to logits": (("mlp_out", [(1, -1)], "last"), [{"layer": 2}], "heads+mlps"),
    "stream to query": (("resid_pre", [(1, -1)], "last"), [{"site": "q", "heads": [[3, 1]]}], "heads"),
    "to heads of two layers": (
        ("head", [(0, 3)], "query"), [{"site": "q", "heads": [[1, 0], [3, 1]]},
         {"site": "v", "heads": [[2, 1]], "position": "query"}, {"site": "k", "heads": [[3, 0]], "position": "query"}],
        "heads",
    ),
    "to outputs": (
        ("head", [(0, 0)], "last"), [{"site": "head", "heads": [[2, 1]]}, {"site": "mlp_out", "layer": 3}], "none",
    ),
    "receivers in between": (
        ("attn_out", [(0, -1)], "last"), [{"site": "attn_out", "layer": 2}, {"site": "mlp_out", "layer": 1}, {}],
        "heads+mlps",
    ),
    "two senders": (("head", [(0, 1), (2, 3)], "last"), [{}], "heads"),
    "neurons": (("mlp_act", [(1, -1)], ["query", "last"]), [{"site": "attn_out", "layer": 3}], "heads"),
    "answers": (("head", [(1, 0)], ["last", "answer"]), [{"position": ["last", "answer"]}], "heads"),
}  # fmt: skip


def put(at: list[int] | slice, own: slice, value: Tensor) -> Any:
    def change(h: Tensor) -> Tensor:
        h = h.clone()
        h[0, at, own] = value
        return h

    return change


class ByHand:
    """Clean run, source's run, for each receiver a run in which the sender is the source's and all between it and that
    receiver is held, and the receivers' run.

    Held as the paper's authors do it: each head's own output, at every token; nothing is left out as needless.
    """

    def __init__(self, model: Any, prompt: Prompt, donor: Prompt):
        self.model, self.prompt, self.tokens, self.given = model, prompt, clean_tokens(prompt), clean_tokens(donor)
        self.donor = donor

    def logits(self, path: Path) -> Tensor:
        """[answer token, vocab] in the receivers' run."""
        (site, sites, position), receivers, frozen = path
        sent = {place: self.sent(site, *place, position) for place in sites}
        first = min((layer, SITES.index(site)) for layer, _ in sites)
        changes = []
        for receiver in receivers:
            part = receiver.get("site", "resid_post")
            for layer, head in receiver.get("heads") or [(receiver.get("layer", LAYERS - 1), -1)]:
                last = (layer, SITES.index(part))
                if last > first:
                    at = self.where(self.prompt, receiver.get("position", "last"))
                    held = [(site, *place, change) for place, change in sent.items()]
                    held += self.held(frozen, site, set(sites), first, last)
                    changes.append((part, layer, head, put(at, *self.received(held, part, layer, head, at))))
        return self.run(changes)[self.prompt.last :]

    def where(self, prompt: Prompt, position: Any) -> list[int]:
        return list(positions_of(prompt, json.dumps(position), len(clean_tokens(prompt))))

    def sent(self, site: str, layer: int, head: int, position: Any) -> Any:
        states = hooked_states(self.model, self.given, layer, site)
        own = part_of(self.model, site, head, states.shape[-1])
        return put(self.where(self.prompt, position), own, states[self.where(self.donor, position)][:, own])

    def held(self, frozen: str, site: str, sites: set, first: tuple[int, int], last: tuple[int, int]) -> list[tuple]:
        """Heads and MLPs computed after the sender and before the receiver, but for further senders."""
        held = []
        begins = first[0] + (site != "resid_pre")  # its own block's heads come after a stream, and beside a head
        for layer in range(begins, LAYERS) if frozen != "none" else ():
            for head in range(self.model.config.num_attention_heads):
                if (layer, SITES.index("attn_out")) < last and not (site == "head" and (layer, head) in sites):
                    held.append(("head", layer, head, self.clean("head", layer, head)))
        for layer in range(LAYERS) if frozen == "heads+mlps" else ():
            if first < (layer, SITES.index("mlp_out")) < last:
                held.append(("mlp_out", layer, -1, self.clean("mlp_out", layer, -1)))
        return held

    def clean(self, site: str, layer: int, head: int) -> Any:
        states = hooked_states(self.model, self.tokens, layer, site)
        own = part_of(self.model, site, head, states.shape[-1])
        return put(slice(None), own, states[:, own])

    def received(self, held: list[tuple], site: str, layer: int, head: int, at: list[int]) -> tuple[slice, Tensor]:
        found = []
        self.run([*held, (site, layer, head, lambda h: found.append(h[0].clone()) or h)])
        own = part_of(self.model, site, head, found[0].shape[-1])
        return own, found[0][at, own]

    @torch.no_grad()
    def run(self, changes: list[tuple]) -> Tensor:
        handles = [_attach(_module(self.model, layer, site), site, change) for site, layer, _, change in changes]
        try:
            return self.model(torch.tensor([self.tokens]), use_cache=False).logits[0]
        finally:
            for handle in handles:
                handle.remove()


def copies_of(model: Any, path: Path) -> tuple[Edit, ...]:
    """What the spec's section of that path is compiled to."""
    (site, sites, position), receivers, frozen = path
    tree = {
        "op": "path", "source": "B", "receivers": receivers, "frozen": frozen,
        "sender": {"site": site, "position": position},
    }  # fmt: skip
    facts = facts_of(ModelSection(name="x"), model.config)
    context = Context("A", "A", ("A", "B"), facts, {}, "")
    planned = planned_edits(EditSection.model_validate(tree), sites, "p", context, "interventions.p", {})
    return tuple(each.edit for each in planned)


def pairs(vocabulary: int) -> tuple[list[Prompt], list[Prompt]]:
    """Prompts, one with an answer of several tokens, and others of the same shape with other tokens throughout."""
    prompts = [unequal_prompts()[1], unequal_prompts()[4]]
    return prompts, [
        replace(prompt, token_ids=tuple((3 * token + 1) % vocabulary for token in prompt.token_ids))
        for prompt in prompts
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_runs_by_hand(family):
    model = random_model(family)
    architecture = architecture_of(model.config)
    if architecture.lacks("q"):
        pytest.skip("it has no queries")
    engine, (prompts, donors) = LocalEngine(model, build()), pairs(model.config.vocab_size)
    paths = {name: path for name, path in PATHS.items() if not architecture.lacks(path[0][0])}
    copies = [Counterfactual(), *(Counterfactual(copies_of(model, path)) for path in paths.values())]
    hands = [ByHand(model, *pair) for pair in zip(prompts, donors, strict=True)]
    expected = [[hand.run([])[hand.prompt.last :], *map(hand.logits, paths.values())] for hand in hands]
    for name, *logits in zip(paths, *(each[1:] for each in expected), strict=True):
        assert max((a - each[0]).abs().max() for a, each in zip(logits, expected, strict=True)) > 1e-5, name
    for way in ("wavefront", "rows") if architecture.packs else ("rows",):
        layout = lay_out(prompts, [-1, -1], copies, way, donors={"B": donors})
        _, found = engine.forward(layout, engine.place({}), {"logits": lambda logits, *_: logits})
        must_equal(layout.reads, found["scores"]["logits"], expected, TOLERANCE)
