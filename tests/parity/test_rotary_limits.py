"""Rotary frequencies that hang on the longest sequence of a pass: exact up to a length, refused beyond it."""

from __future__ import annotations

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.load import facts_of
from patchboard.engine.local import LocalEngine
from patchboard.errors import ModelError
from patchboard.plan.cells import Edit
from patchboard.plan.model import Counterfactual, Group, ModelPlan
from patchboard.plan.model_limits import check_limits
from patchboard.plan.packing import lay_out
from patchboard.spec.sections import ModelSection
from tests.hooks import hooked_logits
from tests.models import random_model, unequal_prompts

COPIES = (Counterfactual(), Counterfactual((Edit("patch", "resid_post", 1, '"last"', 1.0, "v"),)))


def scaled(kind: str, limit: int):
    """A model whose frequencies change beyond ``limit`` tokens."""
    if kind == "dynamic":
        return random_model("llama", max_position_embeddings=limit, rope_parameters={
            "rope_type": "dynamic", "rope_theta": 1e4, "factor": 8.0})  # fmt: skip
    lengths = {"max_position_embeddings": 8 * limit, "original_max_position_embeddings": limit}
    factors = {"short_factor": [1.0] * 6, "long_factor": [4.0] * 6, "original_max_position_embeddings": limit}
    return random_model("phi3", **lengths, rope_parameters={"rope_type": kind, "rope_theta": 1e4, **factors})


def furthest_from_hooks(model, way: str, prompts) -> float:
    """Largest difference of a logit from the prompt's own pass."""
    made = {"v": torch.randn(48, generator=torch.Generator().manual_seed(0))}
    layout = lay_out(prompts, [-1] * len(prompts), COPIES, way)
    _, found = LocalEngine(model, build()).forward(layout, made, {"logits": lambda logits, *_: logits})
    own = [hooked_logits(model, prompts[r.prompt], COPIES[r.copy], made)[r.token] for r in layout.reads]
    return (found["scores"]["logits"] - torch.stack(own)).abs().max().item()


def plan_of(model, prompts) -> ModelPlan:
    group = Group("g", "A", 3, 0, tuple(prompts), (-1,) * len(prompts), COPIES, 0, (), ("logprob",))
    return ModelPlan(ModelSection(), facts_of(ModelSection(), model.config), (group,), (), {}, (), {})


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_prompts_within_the_limit_are_exact_and_longer_ones_refused(kind):
    prompts = unequal_prompts()
    longest = max(len(prompt.token_ids) + len(prompt.answer_ids) - 1 for prompt in prompts)
    within, beyond = scaled(kind, longest), scaled(kind, longest - 1)
    check_limits(plan_of(within, prompts))
    for way in ("wavefront", "rows"):
        assert furthest_from_hooks(within, way, prompts) < 1e-5
        # the shorter prompts are computed with the longest one's frequencies, in both ways alike
        assert furthest_from_hooks(beyond, way, prompts) > 1e-4
    with pytest.raises(ModelError, match=f"has {longest} tokens with its answer, beyond {longest - 1} this model's"):
        check_limits(plan_of(beyond, prompts))


def test_scaled_once_for_all_has_no_limit():
    for rope in ({"rope_type": "default"}, {"rope_type": "linear", "factor": 2.0}):
        config = random_model("llama", rope_parameters={"rope_theta": 1e4, **rope}).config
        assert facts_of(ModelSection(), config).rotary_limit == 0
