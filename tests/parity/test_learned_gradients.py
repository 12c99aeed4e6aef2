"""Gradients of learned vectors through packs are those through plain hooks, one prompt and one edit at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import architecture_of, head_dim_of
from patchboard.engine.learning import frozen, slopes
from patchboard.engine.load import facts_of
from patchboard.engine.local import LocalEngine
from patchboard.engine.parts import neurons_of
from patchboard.metrics import METRICS
from patchboard.plan.cells import Edit
from patchboard.plan.model import Counterfactual, Group
from patchboard.plan.packs import Budget, packs_of
from patchboard.spec.sections import ModelSection
from patchboard.vectors.learned import operand_of
from tests.hooks import hooked_logits
from tests.models import SIZES, random_model, unequal_prompts

TOLERANCE = 1e-5
"""Of gradients up to some tenths, in float32: sums in another order."""
QUICK = ("llama", "gpt2", "gemma2", "opt", "mamba2")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in sorted(SIZES)]
LOGPROB = METRICS["logprob"].score


def copies_of(model) -> tuple[list[Counterfactual], dict[str, tuple[torch.Tensor, ...]]]:
    """The clean run; swaps at several places, of one token and of more; vectors added. With their tensors."""
    generator, lacks = torch.Generator().manual_seed(0), architecture_of(model.config).lacks
    places = [
        ("resid_post", 0, -1, '"last"'),
        ("resid_post", 2, -1, '["last", "answer"]'),
        ("attn_out", 1, -1, '"last"'),
    ]
    places += [(site, 2, 1 if site == "head" else -1, '"last"') for site in ("head", "mlp_act") if not lacks(site)]
    copies, tensors = [Counterfactual()], {}
    for site, layer, head, position in places:
        width = {"head": head_dim_of(model.config), "mlp_act": neurons_of(model.config)}.get(site, 48)
        q, _ = torch.linalg.qr(torch.randn(width, 3, generator=generator))
        tensors[key := f"q{len(copies)}"] = q.T.contiguous(), q * torch.tensor([1.0, 0.6, 0.2]), torch.zeros(width)
        copies.append(
            Counterfactual((Edit("swap", site, layer, position, 1.0, "@flip", head=head, subspace=key),), "flip")
        )
        tensors[key := f"v{len(copies)}"] = (torch.randn(width, generator=generator),)
        copies.append(Counterfactual((Edit("add", site, layer, position, 1.0, key, head=head),)))
    return copies, tensors


def by_hooks(model, group: Group, tensors) -> tuple[list[float], dict[str, list[torch.Tensor]]]:
    """Losses [copy] and gradients, from one forward pass a prompt and copy, without a pack."""
    leaves = {key: [one.clone().requires_grad_() for one in some] for key, some in tensors.items()}
    operands = {key: operand_of(some) for key, some in leaves.items()}
    losses = []
    for copy in group.copies[1:]:
        total = torch.zeros(())
        for prompt, source in zip(group.prompts, group.donors["flip"], strict=True):
            logits = hooked_logits.__wrapped__(model, prompt, copy, operands, {"flip": source})
            answer = torch.tensor(prompt.right(copy.target)[0])
            total = total - logits.log_softmax(-1).gather(1, answer[:, None]).sum() / len(group.prompts)
        total.backward()
        losses.append(float(total.detach()))
    return losses, {key: [leaf.grad for leaf in some] for key, some in leaves.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_packs_and_rows_give_the_gradients_of_hooks(family):
    model = random_model(family)
    sources = (unequal_prompts("B")[4], unequal_prompts("B")[3])
    bases = zip(unequal_prompts()[1:3], sources, strict=True)
    prompts = tuple(replace(prompt, sources={"flip": source}) for prompt, source in bases)
    copies, tensors = copies_of(model)
    group = Group("g", "A", 1, 0, prompts, (-1, -1), tuple(copies), 0, (), ("logprob",), donors={"flip": sources})
    losses, wanted = by_hooks(model, group, tensors)
    engine, facts = LocalEngine(model, build()), facts_of(ModelSection(), model.config)
    for way in ("wavefront", "rows") if architecture_of(model.config).packs else ("rows",):
        for budget in (Budget(), Budget(tokens=1)):
            packs = list(packs_of(group, facts, way, budget))
            assert (len(packs) > 1) == (budget.tokens == 1)
            with frozen(model):
                found = slopes(engine, group, packs, tensors, LOGPROB)
            assert found.losses[0] == 0
            torch.testing.assert_close(found.losses[1:], torch.tensor(losses).double(), atol=1e-4, rtol=1e-5)
            for key, each in wanted.items():
                assert max(float(one.abs().max()) for one in each if one is not None) > 2e-5, key
                for got, one in zip(found.gradients[key], each, strict=True):
                    one = torch.zeros_like(got) if one is None else one
                    torch.testing.assert_close(got, one, atol=TOLERANCE, rtol=1e-4)
    assert all(parameter.requires_grad for parameter in model.parameters()), "as it was before"
