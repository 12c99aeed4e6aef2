"""Sites inside a block: what a spec may say of them, and where heads lie in the modules of families."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from patchboard.engine.families import ARCHITECTURES, Architecture
from patchboard.engine.parts import kv_heads_of, slots_of
from patchboard.engine.sites import is_input, place_of, site_of
from patchboard.errors import SpecError
from patchboard.plan.edit_sites import edit_sites_of
from patchboard.plan.facts import ModelFacts
from patchboard.plan.validate import check_study
from patchboard.spec import study_of
from patchboard.spec.sites import HEADED, SITES
from tests.models import random_model

FACTS = ModelFacts("llama", layers=4, width=48, vocab=83, heads=4, head_dim=12, sites=SITES, kv_heads=2, neurons=96)
VECTOR = {"mean": "same_task", "shots": 2, "prompts": 4}


def zeroed(**section):
    return study_of({"version": 1, "interventions": {"a": {"op": "zero", **section}}})


def refusal(**section) -> str:
    with pytest.raises(SpecError) as caught:
        study = zeroed(**section)
        check_study(study)
        (variant,) = study.points[0].variants
        list(edit_sites_of(variant, FACTS))
    return caught.value.one_line()


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"site": "embed"}, "interventions.a.site: found embed, and the embeddings' output is the first block's input; "
                            "write site: resid_pre, layers: 0"),
        ({"site": "z"}, "a head's output before the projection is called head; write site: head"),
        ({"site": "qq"}, "interventions.a.site: "),
        ({"site": "mlp_act", "heads": [1]}, "a.heads: found the list [1] beside site mlp_act; write site: q or k"),
        ({"site": "q", "neurons": 3}, "a.neurons: found the whole number 3 beside site q; write site: mlp_pre or"),
        ({"site": "mlp_act", "neurons": {"together": [3]}}, "a.neurons: found the mapping {together: [3]}"),
        ({"site": "mlp_act", "neurons": [3, 3]}, "interventions.a.neurons[1]: 3 stands in the list twice; keep one"),
        ({"site": "k", "heads": [0, 2]}, "a.heads[1]: there is no key-value head 2, the model has 2; choose 0 to 1"),
        ({"site": "q", "heads": 4}, "a.heads: there is no head 4, the model has 4; choose 0 to 3"),
    ],
)  # fmt: skip
def test_what_is_refused(section, line):
    assert line in refusal(**section)


def test_a_subspace_is_of_whole_states():
    subspace = {"op": "ablate", "vector": {"subspace": "tasks"}, "site": "mlp_pre", "neurons": [1]}
    assert "a.neurons: a subspace is one of whole states, not of some neurons; leave neurons out" in refusal(**subspace)
    leace = {"op": "ablate", "vector": {"subspace": "tasks", "method": "leace"}, "site": "k"}
    assert "leace has no form for a single head's part" in refusal(**leace)


def test_neurons_are_told_in_the_resolved_spec_only_where_some_are_meant():
    """So that specs of before keep their digests."""
    plain, all_of_them, some = (zeroed(site="mlp_act", **given) for given in ({}, {"neurons": "all"}, {"neurons": [3]}))
    assert "neurons" not in plain.tree["interventions"]["a"] and plain.digest == all_of_them.digest != some.digest
    assert study_of(some.tree).digest == some.digest
    swept = zeroed(site="mlp_act", neurons={"sweep": ["all", [3, 17], "0:4"]})
    assert [variant.swept["interventions.a.neurons"] for variant in swept.points[0].variants] == ["all", [3, 17], "0:4"]
    assert study_of(swept.tree).digest == swept.digest


def test_places_of_a_block_sort_in_the_order_of_the_pass():
    places = [place_of(2, site) for site in SITES]
    assert places == sorted(places) and places[-1] < place_of(3, "resid_pre") and is_input(places[0])
    assert [site_of(place) for place in places[1:-1]] == list(SITES[1:-1]) and is_input(places[-1])


@given(st.sampled_from(("", "parts", "groups")), st.integers(1, 6), st.integers(1, 5))
def test_every_piece_of_the_modules_is_one_heads(fused, kv_heads, shared):
    row = Architecture("a", q="q", k="q" if fused else "k", v="q" if fused else "v", fused=fused)
    slots = slots_of(row, kv_heads * shared, kv_heads)
    assert [len(slots[site]) for site in HEADED] == [kv_heads * shared, *[kv_heads] * 2, *[kv_heads * shared] * 2]
    pieces = [*slots["q"], *slots["k"], *slots["v"]] if fused else slots["q"]
    assert sorted(pieces) == list(range(len(pieces)))
    assert all(list(each) == sorted(each) for each in slots.values()), "heads are in order"


FUSED = {
    "gpt2": {}, "gpt_neox": {}, "phi3": {}, "falcon": {}, "llama": {}, "gptj": {},
    "falcon 7B": dict(new_decoder_architecture=False, num_kv_heads=None),
    "falcon RW": dict(new_decoder_architecture=False, num_kv_heads=None, multi_query=False),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_slots_are_what_attention_is_given(name, monkeypatch):
    """Of one token at position 0, where rotary embeddings do nothing: queries, keys and values as they enter the
    attention itself, head by head, are the slots' columns of the projections' outputs."""
    family = name.split(" ")[0]
    model = random_model(family, attn_implementation="sdpa", **FUSED[name])
    row = ARCHITECTURES[family]
    given_to_attention, projected = [], {}
    attend = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention",
        lambda q, k, v, *rest, **more: given_to_attention.append((q, k, v)) or attend(q, k, v, *rest, **more),
    )  # fmt: skip
    block = model.get_submodule(f"{row.decoder}.{row.blocks}.0")
    for site in "qkv":
        block.get_submodule(getattr(row, site)).register_forward_hook(
            lambda _, __, out, site=site: projected.update({site: out[0, 0].unflatten(-1, (-1, 12))})
        )
    with torch.no_grad():
        model(torch.tensor([[7]]), use_cache=False)
    slots = slots_of(row, 4, kv_heads_of(model.config))
    for site, states in zip("qkv", given_to_attention[0], strict=True):
        own = projected[site][list(slots[site])]  # [head, head_dim]
        attended = states[0, :, 0]  # grouped heads may be repeated here
        repeated = own if len(own) == len(attended) else own.repeat_interleave(len(attended) // len(own), 0)
        torch.testing.assert_close(attended, repeated, atol=1e-6, rtol=0)
