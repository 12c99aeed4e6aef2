"""States put in before the place where they are computed: hooks' results in every family, in two passes."""

from __future__ import annotations

import json

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.batch import make_batch
from patchboard.engine.families import ARCHITECTURES, architecture_of
from patchboard.engine.later import tokens_of, unedited_runs
from patchboard.engine.local import LocalEngine
from patchboard.plan.cells import OWN_STATE, Edit, StateRead, reads_later
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from tests.hooks import hooked_logits
from tests.models import SIZES, random_model, shared_prompts, unequal_prompts

TOLERANCE = 1e-5
SOURCE = "@flip"
LAST, QUERY, ENDS = json.dumps("last"), json.dumps("query"), json.dumps(["last", "answer"])
QUICK = ("llama", "gpt2", "gemma2")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(SIZES)]


def put(site, layer, position, read, operand=SOURCE, op="patch", head=-1, neurons=()) -> Edit:
    return Edit(op, site, layer, position, 0.8, operand, head=head, neurons=neurons, read=read)


COPIES = [
    Counterfactual(),
    Counterfactual((put("resid_post", 1, LAST, StateRead(3, "resid_post", LAST)),)),
    Counterfactual((put("resid_pre", 0, QUERY, StateRead(2, "resid_post", QUERY, filled=True)),)),
    Counterfactual((put("resid_pre", 1, LAST, StateRead(3, "resid_pre", json.dumps("query.first"))),)),
    Counterfactual((put("attn_out", 0, LAST, StateRead(2, "mlp_out", LAST), op="add"),)),
    Counterfactual((put("attn_out", 2, LAST, StateRead(2, "mlp_out", LAST)),)),  # later in the same block
    Counterfactual((put("head", 0, LAST, StateRead(3, "head", LAST), head=2),)),
    Counterfactual((put("v", 1, LAST, StateRead(2, "v", LAST), head=1),)),
    Counterfactual(
        (put("mlp_act", 0, QUERY, StateRead(1, "mlp_act", QUERY, filled=True), neurons=tuple(range(3, 60))),)
    ),
    Counterfactual((put("resid_post", 0, ENDS, StateRead(2, "resid_post", ENDS), OWN_STATE),)),
    Counterfactual((put("resid_post", 0, LAST, StateRead(3, "resid_post", LAST), OWN_STATE),)),
    Counterfactual(
        (
            put("resid_post", 0, QUERY, StateRead(3, "resid_post", QUERY, filled=True)),
            put("resid_post", 2, LAST, StateRead(1, "resid_post", LAST)),
            put("mlp_out", 1, LAST, StateRead(2, "attn_out", LAST), OWN_STATE, op="add"),
        )
    ),
    Counterfactual((put("resid_post", 1, LAST, StateRead(2, "resid_post", LAST)),), "B"),
]


def held(model, prompts, sources, copies, way, **layout) -> None:
    engine = LocalEngine(model, build())
    laid = lay_out(prompts, [-1] * len(prompts), copies, way, donors={"flip": sources}, **layout)
    _, found = engine.forward(laid, engine.place({}), {"logits": lambda logits, *_: logits})
    assert engine.token_layers == laid.token_layers(model.config.num_hidden_layers), "what is counted is computed"
    expected = {}
    for read, got in zip(laid.reads, found["scores"]["logits"], strict=True):
        key = read.prompt, read.copy
        if key not in expected:
            donors = {"flip": sources[read.prompt]}
            expected[key] = hooked_logits(model, prompts[read.prompt], copies[read.copy], {}, donors)
        torch.testing.assert_close(got, expected[key][read.token], atol=TOLERANCE, rtol=TOLERANCE)
    for i in range(len(prompts)):
        for c, copy in enumerate(copies):
            if (i, c) in expected and copy.edits and not copy.target:
                assert (expected[i, c] - expected[i, 0]).abs().max() > 1e-4, c
    assert len({c for _, c in expected}) == len(copies)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_hooks(family):
    model = random_model(family)
    lacks = architecture_of(model.config).lacks
    copies = [
        copy
        for copy in COPIES
        if not any(lacks(edit.site) or lacks(edit.read.site if edit.read else "") for edit in copy.edits)
    ]
    prompts, sources = unequal_prompts()[1:4], [unequal_prompts("B")[i] for i in (4, 3, 2)]  # of other lengths
    for way in ("wavefront", "rows") if ARCHITECTURES[family].packs else ("rows",):
        held(model, prompts, sources, copies, way)


def test_equal_hooks_where_demonstrations_are_shared():
    prompts = shared_prompts()
    prefix = len(prompts[0].token_ids) - len(prompts[0].positions["query"]) - 1
    own = [copy for copy in COPIES if all(edit.operand == OWN_STATE for edit in copy.edits)]
    held(random_model("llama"), prompts, prompts, own, "wavefront", prefix=prefix, together=3)


def test_only_the_runs_that_are_read_are_run_before():
    """Neither copies nor other prompts' donors; and nothing where no state is later."""
    prompt, source = unequal_prompts()[1], unequal_prompts("B")[4]
    later, earlier = (Counterfactual((put("resid_post", 1, LAST, StateRead(at, "resid_post", LAST)),)) for at in (3, 0))
    for way in ("wavefront", "rows"):
        layout = lay_out([prompt], [-1], [Counterfactual(), later, earlier], way, donors={"flip": [source]})
        assert tokens_of(unedited_runs(make_batch(layout))) == len(source.token_ids) + len(source.answer_ids) - 1
        without = lay_out([prompt], [-1], [Counterfactual(), earlier], way, donors={"flip": [source]})
        assert unedited_runs(make_batch(without)) is None
    at = Edit("patch", "resid_pre", 3, LAST, 1.0, SOURCE)
    assert [reads_later(edit) for copy in (later, earlier) for edit in (*copy.edits, at)] == [True, False, False, False]
