"""Models of continuous inputs: embeddings in place of token ids, in every way of computing cells."""

import json

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.local import LocalEngine
from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from tests.models import random_model, unequal_prompts

WAYS = ("wavefront", "rows")
COPIES = [
    Counterfactual(),
    Counterfactual((Edit("patch", "resid_post", 1, '"last"', 1.0, "v"),)),
    Counterfactual((Edit("add", "attn_out", 2, json.dumps(["last", "before_answers"]), 0.5, "v"),)),
    Counterfactual((Edit("zero", "head", 1, '"all"', 1.0, head=2),)),
    Counterfactual((Edit("patch", "resid_post", 2, '"all"', 1.0, OWN_STATE),)),
]


def logits_of(logits, target, foil, clean):
    return logits


def computed(model, way, embed=None):
    prompts = unequal_prompts()
    made = {"v": torch.randn(48, generator=torch.Generator().manual_seed(1))}
    layout = lay_out(prompts, [-1] * len(prompts), COPIES, way)
    _, found = LocalEngine(model, build(), embed=embed).forward(layout, made, {"logits": logits_of})
    assert len(layout.reads) == len(found["scores"]["logits"])
    return layout, found["scores"]["logits"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma3_text", "gpt_neox"])
def test_the_models_own_embeddings_are_its_token_ids(family, way):
    model = random_model(family)
    _, by_id = computed(model, way)
    _, by_embedding = computed(model, way, model.get_input_embeddings())
    torch.testing.assert_close(by_embedding, by_id, atol=0, rtol=0)


@pytest.mark.parametrize("family", ["gpt2", "mistral"])
def test_ways_agree_on_inputs_that_no_token_has(family):
    """Inputs off the vocabulary, and what enters does reach the logits."""
    model = random_model(family)
    shift = torch.randn(model.get_input_embeddings().weight.shape, generator=torch.Generator().manual_seed(2))

    def embed(tokens):
        return model.get_input_embeddings()(tokens) + shift[tokens]

    found = {}
    for way in WAYS:
        layout, logits = computed(model, way, embed)
        reads = layout.reads
        found[way] = {
            key: row
            for key, row in zip(
                zip(reads.prompt.tolist(), reads.copy.tolist(), reads.token.tolist(), strict=True), logits, strict=True
            )
        }
    assert found["wavefront"].keys() == found["rows"].keys()
    for key, row in found["rows"].items():
        torch.testing.assert_close(found["wavefront"][key], row, atol=1e-5, rtol=1e-5)
        if key[1] == 4:  # the self patch
            torch.testing.assert_close(row, found["rows"][key[0], 0, key[2]], atol=1e-5, rtol=1e-5)
        if key[1] in (1, 2, 3) and key[2] == 0:
            assert (row - found["rows"][key[0], 0, 0]).abs().max() > 1e-3
    _, plain = computed(model, "rows")
    assert (plain - torch.stack(list(found["rows"].values()))).abs().max() > 1e-2
