"""Attention weights put in: a literal sum of values by the module's own weights, in every family and kernel."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.batch import make_batch
from patchboard.engine.families import ARCHITECTURES, architecture_of, head_dim_of, sites_of
from patchboard.engine.local import LocalEngine
from patchboard.engine.parts import kv_heads_of
from patchboard.engine.pattern import tokens_probed, weights_read
from patchboard.engine.steps import largest_moves
from patchboard.engine.trace import traced_forward
from patchboard.ops import OPS
from patchboard.plan.cells import OWN_STATE, Edit, source_of
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.plan.suffix import clean_tokens, positions_of
from patchboard.spec.sites import PATTERN
from tests.hooks import _attach, _module, hooked_states, part_of
from tests.models import SIZES, random_model, shared_prompts, unequal_prompts

TOLERANCE = 1e-5
SOURCE = "@flip"
LAST, QUERY, ENDS, BOTH = (json.dumps(p) for p in ("last", "query", ["last", "answer"], ["query", "last"]))
QUICK = ("llama", "gpt2", "gemma2", "gpt_neox")
FAMILIES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in sorted(SIZES)
    if PATTERN in sites_of(ARCHITECTURES[name], name == "olmo")
]


def weights(layer, head, operand=SOURCE, position=LAST, strength=1.0) -> Edit:
    return Edit("patch", PATTERN, layer, position, strength, operand, head=head, keys=12)


def state(site, layer, position, operand=SOURCE, head=-1) -> Edit:
    return Edit("patch", site, layer, position, 1.0, operand, head=head)


MOVED = state("resid_post", 0, QUERY)
COPIES = [
    Counterfactual(),
    Counterfactual((weights(2, 1),)),
    Counterfactual((weights(1, 3, position=BOTH, strength=0.6),)),
    Counterfactual((weights(1, 0), weights(1, 2), weights(3, 1))),
    Counterfactual((weights(0, 2), state("head", 2, LAST, head=1))),
    Counterfactual((MOVED,)),
    Counterfactual((MOVED, weights(2, 1, OWN_STATE, ENDS), weights(3, 0, OWN_STATE, ENDS))),
    Counterfactual((state("v", 1, BOTH, head=0), weights(1, 1))),
    Counterfactual((weights(2, 1),), "B"),
    Counterfactual((MOVED, weights(2, 1, OWN_STATE, ENDS)), "B"),
]


@torch.no_grad()
def by_hand(model, prompt, copy, source) -> torch.Tensor:
    """[answer token, vocab]: weights as the attention module returns them, values as its projection gives them in the
    edited run, one token and head after the other."""
    tokens = prompt.token_ids + prompt.right(copy.target)[copy.answer][:-1]
    shared = model.config.num_attention_heads // kv_heads_of(model.config)
    size, handles = head_dim_of(model.config), []
    taken = {
        edit: hooked_states(model, clean_tokens(source) if source_of(edit) else tokens, edit.layer, edit.site)
        for edit in copy.edits
        if edit.site != PATTERN
    }
    attended = {
        edit: model(
            torch.tensor([clean_tokens(source) if source_of(edit) else tokens]), use_cache=False, output_attentions=True
        ).attentions[edit.layer][0, edit.head]
        for edit in copy.edits
        if edit.site == PATTERN
    }
    for edit in copy.edits:
        where = positions_of(prompt, edit.position, len(tokens))
        if edit.site != PATTERN:

            def put(h, edit=edit, where=where):
                h = h.clone()
                own = part_of(model, edit.site, edit.head, h.shape[-1])
                h[0, list(where), own] = taken[edit][list(where), own]
                return h

            handles.append(_attach(_module(model, edit.layer, edit.site), edit.site, put))
            continue
        values: list[torch.Tensor] = []

        def read(h, values=values, edit=edit):
            values[:] = h[0, :, part_of(model, "v", edit.head // shared, h.shape[-1])]
            return h

        def mixed(h, values=values, edit=edit, where=where):
            h = h.clone()
            for at in where:
                total = sum(float(attended[edit][at, j]) * values[j] for j in range(at + 1))
                own = slice(edit.head * size, (edit.head + 1) * size)
                h[0, at, own] = (1 - edit.strength) * h[0, at, own] + edit.strength * total
            return h

        handles.append(_attach(_module(model, edit.layer, "v"), "v", read))
        handles.append(_attach(_module(model, edit.layer, "head"), "head", mixed))
    try:
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return logits[prompt.last :]


def pairs() -> tuple[list, list]:
    """Prompts of different lengths, and sources of the same lengths and places but other tokens."""
    prompts = unequal_prompts()[:3]
    turned = [
        replace(p, token_ids=(p.token_ids[0], *p.token_ids[-2:0:-1], p.token_ids[-1]), sources={}) for p in prompts
    ]
    return prompts, turned


def computed(model, prompts, sources, copies, way, **layout) -> tuple[dict, torch.Tensor]:
    """(prompt, copy, token) -> logits, and how far each copy's edits moved anything."""
    engine = LocalEngine(model, build())
    laid = lay_out(prompts, [-1] * len(prompts), copies, way, donors={"flip": sources}, **layout)
    batch, found = engine.forward(laid, {}, {"logits": lambda logits, *_: logits})
    assert engine.token_layers == laid.token_layers(model.config.num_hidden_layers), "what is counted is computed"
    keys = [(read.prompt, read.copy, read.token) for read in laid.reads]
    return dict(zip(keys, found["scores"]["logits"], strict=True)), largest_moves(batch, found["moved"])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_weights_by_hand(family, attention):
    model = random_model(family, attn_implementation="eager")
    if attention == "sdpa" and not model._supports_sdpa:
        pytest.skip("of a family that has none")
    prompts, sources = pairs()
    size = head_dim_of(model.config)
    copies = [
        replace(copy, edits=tuple(replace(edit, keys=size if edit.keys else 0) for edit in copy.edits))
        for copy in COPIES
    ]
    expected = {
        (i, c): by_hand(model, prompt, copy, source)
        for i, (prompt, source) in enumerate(zip(prompts, sources, strict=True))
        for c, copy in enumerate(copies)
    }
    for (i, c), logits in expected.items():
        if c and not copies[c].target:
            assert (logits - expected[i, 0]).abs().max() > 1e-4, c
    model.set_attn_implementation(attention)
    for way in ("wavefront", "rows") if architecture_of(model.config).packs else ("rows",):
        found, moved = computed(model, prompts, sources, copies, way)
        assert len(found) == sum(map(len, expected.values()))
        for (i, c, token), logits in found.items():
            torch.testing.assert_close(logits, expected[i, c][token], atol=TOLERANCE, rtol=TOLERANCE)
        assert moved[1] > 1e-3


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_neox", "gpt_oss"])
def test_a_runs_own_weights_change_nothing(family):
    """Also where windows, caps and sinks leave rows of weights that do not sum to 1."""
    model, (prompts, sources) = random_model(family), pairs()
    position = json.dumps(["all", "answer"])
    keys = head_dim_of(model.config)
    own = [replace(weights(layer, head, OWN_STATE, position), keys=keys) for layer in (0, 3) for head in range(4)]
    copies = [Counterfactual(), *(Counterfactual(edits) for edits in (tuple(own), tuple(own[:1])))]
    for way in ("wavefront", "rows"):
        found, moved = computed(model, prompts, sources, copies, way)
        assert 0 <= moved[1:].max() < 1e-5
        for (i, _, token), logits in found.items():
            torch.testing.assert_close(logits, found[i, 0, token], atol=TOLERANCE, rtol=TOLERANCE)


def test_weights_and_values_of_a_source_are_its_head():
    """All values of the head, and the weights of the last token: then the source's output of the head is what stands
    there already, so that to put it in moves nothing."""
    model, (prompts, sources) = random_model("llama"), pairs()
    values, head = state("v", 2, json.dumps("all"), head=1), state("head", 2, LAST, head=2)
    copies = [Counterfactual(), Counterfactual((values, weights(2, 2), head))]
    for way in ("wavefront", "rows"):
        laid = lay_out(prompts, [-1] * 3, copies, way, donors={"flip": sources})
        batch, found = LocalEngine(model, build()).forward(laid, {}, {})
        by_place = zip((group.place for group in batch.edits), found["moved"], strict=True)
        of_values, of_weights, of_head = (float(moved.max()) for _, moved in sorted(by_place, key=lambda one: one[0]))
        assert of_head < 1e-5 < 1e-3 < min(of_values, of_weights)


def test_own_weights_where_demonstrations_are_shared():
    prompts = shared_prompts()
    prefix = len(prompts[0].token_ids) - len(prompts[0].positions["query"]) - 1
    model = random_model("llama")
    moved = Edit("scale", "resid_post", 0, QUERY, 3.0)
    copies = [Counterfactual(), Counterfactual((moved,)), Counterfactual((moved, weights(2, 1, OWN_STATE)))]
    found, _ = computed(model, prompts, prompts, copies, "wavefront", prefix=prefix, together=3)
    plain, _ = computed(model, prompts, prompts, copies, "rows")
    assert plain.keys() == found.keys()
    for key, logits in found.items():
        torch.testing.assert_close(logits, plain[key], atol=TOLERANCE, rtol=TOLERANCE)
    assert max((found[0, 1, 0] - found[0, 2, 0]).abs()) > 1e-4


def test_passes_are_those_of_the_longest_run_that_is_read():
    """One that tells what heads give, and one for each ``head_dim`` tokens; shorter rows leave earlier."""
    prompts, sources = pairs()
    layout = lay_out(prompts, [-1] * 3, [Counterfactual(), Counterfactual((weights(2, 1),))], "wavefront",
                     donors={"flip": sources})  # fmt: skip
    lengths = [len(clean_tokens(source)) for source in sources]
    assert len({-(-length // 12) for length in lengths}) > 1
    assert layout.passes_before == 1 + max(-(-length // 12) for length in lengths)
    before = sum(length * (1 + -(-length // 12)) for length in lengths)
    assert layout.computed_tokens == int((layout.segments >= 0).sum()) + before
    engine, batch, computed_there = LocalEngine(random_model("llama"), build()), make_batch(layout), []

    def forward(runs, operands):
        computed_there.append(int((runs.segments >= 0).sum()))
        return traced_forward(engine.traced, engine.wiring, runs, operands, {}, {"patch": OPS["patch"].apply})

    weights_read(forward, batch, engine.wiring)
    assert sum(computed_there) == tokens_probed(batch, 12) == before and len(computed_there) == layout.passes_before


def test_a_source_with_more_tokens_before_gives_no_outcome():
    prompts, (_, _, longer) = unequal_prompts()[1:3], unequal_prompts("B")[:3]
    copies = [Counterfactual(), Counterfactual((weights(2, 1),))]
    layout = lay_out(prompts[:1], [-1], copies, "wavefront", donors={"flip": [longer]})
    assert {read.copy for read in layout.reads} == {0}
