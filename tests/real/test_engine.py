"""wavefront = rows = plain hooks, at the depth and the scale of a pretrained model's states."""

from __future__ import annotations

import json

import pytest
import torch

from patchboard.engine.load import open_model
from patchboard.engine.local import LocalEngine
from patchboard.plan.build import build_plans
from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.spec import study_of
from tests.hooks import hooked_logits, hooked_states

TOLERANCE = 2e-4
"""Largest difference of a log-probability, in nats: float32, sums in another order through 18 and 30 blocks."""


def copies(depth: int) -> list[Counterfactual]:
    """Edits at the first, a middle and the last blocks; of one token and of many; one and two in a copy."""
    late, last = 2 * depth // 3, json.dumps("last")
    return [
        Counterfactual(),
        Counterfactual((Edit("patch", "resid_post", 0, last, 1.0, "mean"),)),
        Counterfactual((Edit("patch", "resid_post", late, json.dumps(["last", "answer"]), 1.0, "mean"),)),
        Counterfactual((Edit("add", "resid_post", depth - 1, last, 0.5, "mean"),)),
        Counterfactual((Edit("zero", "mlp_out", late, json.dumps("demo_outputs"), 1.0),)),
        Counterfactual((Edit("patch", "head", depth // 2, json.dumps("all"), 1.0, OWN_STATE, head=1),)),
        Counterfactual((Edit("scale", "resid_pre", 3, last, 2.0), Edit("zero", "attn_out", late, last, 1.0))),
    ]


def logits_of(logits, target, foil, clean):
    """A scorer that brings all logits home."""
    return logits


@pytest.mark.parametrize("way", ["wavefront", "rows"])
def test_every_way_is_the_plain_model_with_hooks(way, loaded, pair_files):
    tree = {
        "model": {"name": loaded.name},
        "tasks": {"family": "pairs", "files": pair_files, "include_null": False},
        "prompts": {"shots": 3, "queries": 1},
        "interventions": {"cut": {"op": "zero", "site": "mlp_out", "layers": 1}},
    }
    (plan,) = build_plans(study_of(tree), open_model)
    prompts = [prompt for group in plan.groups for prompt in group.prompts]
    assert {len(prompt.right()[0]) for prompt in prompts} == {1, 2}, "answers of one token and of two"
    depth = plan.facts.layers
    at = [hooked_states(loaded.model, prompt.token_ids, 2 * depth // 3, "resid_post")[-1] for prompt in prompts]
    operands, wanted = {"mean": torch.stack(at).mean(0)}, copies(depth)
    layout = lay_out(prompts, [-1] * len(prompts), wanted, way)
    engine = LocalEngine(loaded.model, loaded.tokenizer)
    _, result = engine.forward(layout, engine.place(operands), {"logits": logits_of})
    seen: dict[tuple[int, int], int] = {}
    changed = set()
    for read, got in zip(layout.reads, result["scores"]["logits"], strict=True):
        key = (read.prompt, read.copy)
        token = seen[key] = seen.get(key, -1) + 1
        own, clean = (
            hooked_logits(loaded.model, prompts[read.prompt], copy, operands)[token].log_softmax(-1)
            for copy in (wanted[read.copy], wanted[0])
        )
        assert (got.log_softmax(-1) - own).abs().max() < TOLERANCE, key
        changed |= {read.copy} if (own - clean).abs().max() > 100 * TOLERANCE else set()
    assert changed == {1, 2, 3, 4, 6}, "all edits but a state put in its own place move the answer"
    assert len(seen) == len(prompts) * len(wanted)
