"""packed = rows = hooks, on every family, within float32's rounding."""

from __future__ import annotations

import json

import pytest
import torch

from interventions.embedded.tokenizer import build
from interventions.engine.families import ARCHITECTURES, SITES
from interventions.engine.hooks import hooked_logits
from interventions.engine.local import LocalEngine
from interventions.ops import OPS, SubspaceTensors
from interventions.plan.cells import OWN_STATE, Edit
from interventions.plan.model import Copy
from interventions.plan.packing import lay_out
from tests.models import SIZES, random_model, unequal_prompts

TOLERANCE = 1e-5
"""Logit difference allowed between two ways of computing one cell: sums in another order, in float32."""

LAST = json.dumps("last")
POSITIONS = ("last", "query", "demo_outputs", "before_answers", "demo_inputs", "all", ["last", "answer"], 1, -2)


def operands(width: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(width, 3, generator=generator))
    return {
        "v": torch.randn(width, generator=generator),
        "w": torch.randn(width, generator=generator),
        "s": SubspaceTensors(basis, basis.T.contiguous(), torch.randn(width, generator=generator)),
    }


def copies() -> list[Copy]:
    """Every op, site, layer and position at least once, edits that compose, and targets of task B."""
    operand = {"vector": "v", "subspace": "s", "none": ""}
    out = [Copy(), Copy(target="B")]
    for name, op in OPS.items():
        for layer in range(4):
            site = SITES[layer] if name != "patch" else "resid_post"
            out.append(Copy((Edit(name, site, layer, '"last"', 0.7, operand[op.operand]),)))
    out += [Copy((Edit("patch", "resid_post", 1, json.dumps(p), 1.0, "w"),)) for p in POSITIONS]
    out += [Copy((Edit("patch", "resid_pre", 2, '"last"', 1.0, "v"),), "B")]
    out += [Copy((Edit("patch", "resid_post", 2, '["last", "answer"]', 1.0, "v"),), "B")]
    out += [Copy((Edit("patch", site, 2, json.dumps(p), 1.0, OWN_STATE),)) for site in SITES for p in ("last", "all")]
    out += [
        Copy((Edit("add", "resid_post", 1, '"last"', 1.0, "v"), Edit("ablate", "resid_post", 1, '"last"', 1.0, "s"))),
        Copy((Edit("ablate", "resid_post", 1, '"last"', 1.0, "s"), Edit("add", "resid_post", 1, '"last"', 1.0, "v"))),
        Copy((Edit("add", "resid_post", 0, '"query"', 1.0, "v"), Edit("zero", "attn_out", 3, '"last"', 1.0))),
    ]
    return out


def logits_of(logits, target, foil, clean):
    """A scorer that brings all logits home."""
    return logits


@pytest.fixture(scope="module", params=sorted(SIZES))
def computed(request):
    model = random_model(request.param)
    engine = LocalEngine(model, build())
    prompts, wanted = unequal_prompts(), copies()
    made = operands(model.config.hidden_size)
    found = {}
    for packed in (True, False):
        layout = lay_out(prompts, [-1] * len(prompts), wanted, packed)
        _, result = engine.forward(layout, engine.place(made), {"logits": logits_of})
        found[packed] = (layout, result["scores"]["logits"])
    return model, prompts, wanted, made, found


def test_every_family_is_tested():
    assert set(SIZES) == set(ARCHITECTURES)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "rows"])
def test_equals_hooks(computed, packed):
    model, prompts, wanted, made, found = computed
    layout, logits = found[packed]
    oracle = {}
    seen = 0
    for read, got in zip(layout.reads, logits, strict=True):
        key = (read.prompt, read.copy)
        if key not in oracle:
            oracle[key] = list(hooked_logits(model, prompts[read.prompt], wanted[read.copy], made))
        expected = oracle[key].pop(0)
        torch.testing.assert_close(got, expected, atol=TOLERANCE, rtol=TOLERANCE)
        seen += 1
    assert all(not left for left in oracle.values()), "the engine read fewer answer tokens than the oracle"
    assert seen > 200


def test_packed_sequences_are_shorter_than_rows(computed):
    *_, found = computed
    assert found[True][0].computed_tokens < found[False][0].computed_tokens / 2


def test_edits_move_logits_and_self_does_not(computed):
    """Both sides: a vector written to `last` changes its prompt's logits, a state patched with itself does not."""
    *_, wanted, _, found = computed
    layout, logits = found[True]
    clean = {(r.prompt, r.target): x for r, x in zip(layout.reads, logits, strict=True) if r.copy == 0 and r.first}
    for read, got in zip(layout.reads, logits, strict=True):
        edits = wanted[read.copy].edits
        if not read.first or wanted[read.copy].target:
            continue
        moved = (got - clean[read.prompt, read.target]).abs().max().item()
        if any(e.operand == OWN_STATE for e in edits):
            assert moved < TOLERANCE
        elif any(e.op in ("patch", "add") and e.position == LAST for e in edits):
            assert moved > 1e-3, edits
