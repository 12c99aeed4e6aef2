"""States taken from another prompt, or from another place of the same one: hooks' results in every family."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import architecture_of
from patchboard.engine.local import LocalEngine
from patchboard.plan.cells import OWN_STATE, Edit, StateRead
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.plan.suffix import clean_tokens
from tests.hooks import hooked_logits
from tests.models import SIZES, random_model, unequal_prompts
from tests.parity.logits import must_equal

TOLERANCE = 1e-5
SOURCE = "@flip"


def edits_of(family_lacks) -> list[Counterfactual]:
    """The clean run; the source's states at the same place, from an earlier layer, another site, another position, with
    fewer tokens than are edited; own states put back behind an edit (frozen), own states of elsewhere."""
    last, query = json.dumps("last"), json.dumps("query")

    def put(
        site: str, layer: int, position: str, operand: str, read: StateRead | None = None, op: str = "patch"
    ) -> Edit:
        head = 1 if site == "head" else -1
        return Edit(op, site, layer, position, 1.0, operand, head=head, read=read)

    copies = [
        (),
        (put("resid_post", 2, last, SOURCE),),
        (put("resid_post", 2, last, SOURCE, StateRead(0, "resid_post", last)),),
        (put("resid_pre", 3, last, SOURCE, StateRead(1, "resid_post", json.dumps("query.first"))),),
        (put("resid_post", 1, query, SOURCE, StateRead(1, "attn_out", json.dumps("query.last"), filled=True)),),
        (put("attn_out", 2, last, SOURCE, op="add"),),
        (put("resid_post", 2, last, OWN_STATE, StateRead(0, "resid_pre", json.dumps("query.first"))),),
        (put("resid_post", 0, query, SOURCE, StateRead(0, "resid_post", query, filled=True)),
         put("attn_out", 2, last, OWN_STATE), put("attn_out", 3, last, OWN_STATE)),
    ]  # fmt: skip
    if not family_lacks("head"):
        copies.append((put("head", 2, last, SOURCE, StateRead(1, "head", last)),))
    told = (put("resid_post", 1, last, SOURCE), put("attn_out", 3, json.dumps(["last", "answer"]), OWN_STATE))
    of_its_answer = [Counterfactual((), "flip"), Counterfactual(told, "flip")]  # scored on the source's own answer
    return [*(Counterfactual(edits) for edits in copies), *of_its_answer]


@pytest.mark.parametrize("family", sorted(SIZES))
def test_equal_hooks(family):
    model = random_model(family)
    architecture = architecture_of(model.config)
    engine, sources = LocalEngine(model, build()), [unequal_prompts("B")[4], unequal_prompts("B")[3]]
    bases = zip(unequal_prompts()[1:3], sources, strict=True)  # of other lengths
    prompts = [replace(prompt, sources={"flip": source}) for prompt, source in bases]
    copies = edits_of(architecture.lacks)
    expected = [
        [hooked_logits(model, prompt, copy, {}, {"flip": source}) for copy in copies]
        for prompt, source in zip(prompts, sources, strict=True)
    ]
    for each in expected:
        for number, (copy, logits) in enumerate(zip(copies[1:], each[1:], strict=True), 1):
            unedited = each[copies.index(Counterfactual((), copy.target))]
            assert logits is unedited or (logits - unedited).abs().max() > 1e-4, number
    assert [len(logits) for logits in expected[0][-2:]] == [len(sources[0].answer_ids)] * 2
    for way in ("wavefront", "rows") if architecture.packs else ("rows",):
        layout = lay_out(prompts, [-1, -1], copies, way, donors={"flip": sources})
        _, found = engine.forward(layout, engine.place({}), {"logits": lambda logits, *_: logits})
        must_equal(layout.reads, found["scores"]["logits"], expected, TOLERANCE)


@pytest.mark.parametrize("way", ["wavefront", "rows"])
def test_a_run_is_compared_with_that_of_its_source(way):
    """``against``: the distribution that scorers are given last is the source's, whatever the copy's own edits take."""
    model, prompts = random_model("llama"), unequal_prompts()[1:3]
    sources = [unequal_prompts("B")[4], unequal_prompts("B")[3]]
    own = Edit("patch", "attn_out", 2, '"last"', 1.0, OWN_STATE)
    copies = [Counterfactual(), Counterfactual((own,)), Counterfactual((own,), against="flip"),
              Counterfactual((), against="flip")]  # fmt: skip
    layout = lay_out(prompts, [-1, -1], copies, way, donors={"flip": sources})
    engine = LocalEngine(model, build())
    _, found = engine.forward(layout, engine.place({}), {"reference": lambda *given: given[-1]})
    for read, got in zip(layout.reads, found["scores"]["reference"], strict=True):
        run = (sources if copies[read.copy].against else prompts)[read.prompt]
        wanted = hooked_logits(model, run, Counterfactual(), {})[0]
        torch.testing.assert_close(got, wanted, atol=TOLERANCE, rtol=TOLERANCE)
    assert {read.copy for read in layout.reads} == {0, 1, 2, 3}
    assert layout.computed_tokens == lay_out(prompts, [-1, -1], copies[:2], way).computed_tokens + sum(
        len(clean_tokens(source)) for source in sources
    ), "a copy that is only compared with another run is not computed again"


def test_a_source_that_does_not_fit_gives_no_outcome():
    """An edit of two tokens cannot take the state of one, unless it is told how; nor that of an excluded prompt."""
    prompt, source = unequal_prompts()[4], unequal_prompts("B")[1]
    read = StateRead(1, "resid_post", '["query.first", "last"]')
    edit = Edit("patch", "resid_post", 1, '["query.last", "last", "answer"]', 1.0, SOURCE, read=read)

    def copies_read(edit: Edit, source) -> set[int]:
        copies = [Counterfactual(), Counterfactual((edit,))]
        return {read.copy for read in lay_out([prompt], [-1], copies, "wavefront", donors={"flip": [source]}).reads}

    assert len(prompt.answer_ids) > 1, "its forced answer is a third token"
    assert copies_read(edit, source) == {0}
    assert copies_read(replace(edit, read=read._replace(filled=True)), source) == {0, 1}
    assert copies_read(replace(edit, read=read._replace(filled=True)), replace(source, excluded="x")) == {0}
