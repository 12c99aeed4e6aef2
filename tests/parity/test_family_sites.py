"""What edits at a family's sites do: hooks' results in each layout of its checkpoints."""

from __future__ import annotations

import json

import pytest
import torch

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import architecture_of, head_dim_of
from patchboard.engine.family_check import check_architecture
from patchboard.engine.local import LocalEngine
from patchboard.engine.parts import kv_heads_of, neurons_of
from patchboard.errors import ModelError
from patchboard.plan.cells import OWN_STATE, Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import lay_out
from patchboard.spec.sites import HEADED, NEURAL, PATTERN, SITES
from tests.hooks import hooked_logits
from tests.models import SIZES, random_model, unequal_prompts
from tests.parity.logits import must_equal

TOLERANCE = 1e-5

_OLD = dict(new_decoder_architecture=False, num_kv_heads=None)
LAYOUTS = {
    "falcon with ALiBi": ("falcon", dict(alibi=True, **_OLD, multi_query=False, parallel_attn=False)),
    "falcon 7B": ("falcon", dict(**_OLD)),
    "falcon 11B": ("falcon", dict(num_ln_in_parallel_attn=1)),
    "falcon, one after the other": ("falcon", dict(**_OLD, multi_query=False, parallel_attn=False, bias=True)),
    "opt 350M": ("opt", dict(do_layer_norm_before=False, word_embed_proj_dim=32)),
    "opt without biases": ("opt", dict(enable_bias=False, layer_norm_elementwise_affine=False)),
    "stablelm side by side": ("stablelm", dict(use_parallel_residual=True, qk_layernorm=True, use_qkv_bias=True)),
    "phi with norms of queries": ("phi", dict(qk_layernorm=True)),
    "gptj with a narrow MLP": ("gptj", dict(n_inner=64)),
    "granite with biases": ("granite", dict(attention_bias=True, mlp_bias=True, tie_word_embeddings=True)),
    "smollm3 without windows": ("smollm3", dict(use_sliding_window=False, sliding_window=None)),
    "qwen3_moe, every other block": ("qwen3_moe", dict(decoder_sparse_step=2, mlp_only_layers=[], norm_topk_prob=True)),
    "mixtral without windows": ("mixtral", dict(sliding_window=None)),
    "olmo3 with yarn": ("olmo3", dict(rope_parameters={
        "full_attention": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
                           "original_max_position_embeddings": 512},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})),
}  # fmt: skip
"""Checkpoints of a family that are built in another way than its model in ``SIZES``."""

# in the default suite: each other way to hold heads, neurons or attention; the others are built as one of these
QUICK = ("falcon with ALiBi", "falcon 7B", "opt 350M", "cohere2", "falcon", "gemma2", "glm4", "gpt2", "gpt_neox",
         "gpt_oss", "gptj", "llama", "mamba2", "mixtral", "olmo2", "opt", "phi", "phi3", "phimoe", "qwen3")  # fmt: skip
CASES = [
    pytest.param(family, settings, id=name, marks=() if name in QUICK else pytest.mark.slow)
    for name, (family, settings) in {**{family: (family, {}) for family in sorted(SIZES)}, **LAYOUTS}.items()
]


def operands(model) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = {"v": torch.randn(48, generator=generator), "h": torch.randn(head_dim_of(model.config), generator=generator)}
    neurons = torch.randn(neurons_of(model.config), generator=generator)
    return made | {"n": neurons, "three": neurons[:3]}


def run(engine: LocalEngine, way, prompts, copies) -> tuple[list, torch.Tensor]:
    """Reads and their logits [read, vocab]."""
    layout = lay_out(prompts, [-1] * len(prompts), copies, way)
    given = engine.place(operands(engine.module))
    _, found = engine.forward(layout, given, {"logits": lambda logits, *_: logits})
    return list(layout.reads), found["scores"]["logits"]


def assert_equals_hooks(model, ways, copies) -> None:
    engine, prompts = LocalEngine(model, build()), unequal_prompts()[1:3]
    made = operands(model)
    expected = [[hooked_logits(model, prompt, copy, made) for copy in copies] for prompt in prompts]
    for way in ways:
        reads, logits = run(engine, way, prompts, copies)
        must_equal(reads, logits, expected, TOLERANCE)
    for prompt, each in zip(prompts, expected, strict=True):
        for copy, logits in zip(copies[1:], each[1:], strict=True):
            moved = (logits[0] - each[0][0]).abs().max()
            assert (moved > 1e-3) == (copy.edits[0].operand != OWN_STATE), (prompt, copy)


def edits_of(model) -> list[Counterfactual]:
    """The clean run, and at each site a vector at some tokens, and all tokens' own states."""
    architecture = architecture_of(model.config)
    copies = [Counterfactual()]
    for site in (site for site in SITES if site != PATTERN and not architecture.lacks(site)):
        last = kv_heads_of(model.config) - 1 if site in ("k", "v") else 2
        name, head = ("h", last) if site in HEADED else ("n", -1) if site in NEURAL else ("v", -1)
        copies += [
            Counterfactual((Edit("patch", site, layer, json.dumps(position), 1.0, operand, head=head),))
            for layer, position, operand in ((1, ["last", "query"], name), (2, "all", OWN_STATE))
        ]
        if site in NEURAL:
            some = [5, 0, neurons_of(model.config) - 1]
            copies += [Counterfactual((Edit("patch", site, 1, '"all"', 1.0, "three", neurons=tuple(some)),))]
        if site in HEADED:  # two heads at once, in the same module as all of queries, keys and values may be
            edits = Edit("add", site, 2, '"all"', 2.0, "h", head=0), Edit("zero", site, 2, '"all"', 1.0, head=last)
            copies += [Counterfactual(edits[: 1 + (last > 0)])]
    if not architecture.lacks("q"):
        edits = (Edit("add", site, 1, '["query", "last"]', 3.0, "h", head=0) for site in "vqk")
        copies += [Counterfactual(tuple(edits))]
    return copies


@pytest.mark.parametrize(("family", "settings"), CASES)
def test_every_site_equals_hooks(family, settings):
    model = random_model(family, **settings)
    architecture = architecture_of(model.config)
    check_architecture(model, architecture)
    ways = ("wavefront", "rows") if architecture.packs else ("rows",)
    assert_equals_hooks(model, ways, edits_of(model))


def test_alibi_refuses_to_be_packed():
    model = random_model("falcon", alibi=True)
    with pytest.raises(ModelError, match="this model of family 'falcon' cannot be packed"):
        run(LocalEngine(model, build()), "wavefront", unequal_prompts()[:1], edits_of(model))


@pytest.mark.parametrize("experts", ["grouped_mm", pytest.param("batched_mm", marks=pytest.mark.slow),
                                     pytest.param("eager", marks=pytest.mark.slow)])  # fmt: skip
@pytest.mark.parametrize("family", ["mixtral", pytest.param("qwen3_moe", marks=pytest.mark.slow)])
def test_experts_take_each_token_by_itself(family, experts):
    """In every implementation of the experts: no other token of the batch, however many, changes one's result.

    All tokens are sent to two experts, which a limit of their number would show."""
    model = random_model(family, mlp_only_layers=[]) if family == "qwen3_moe" else random_model(family)
    model.set_experts_implementation(experts)
    for block in model.model.layers:
        block.post_attention_layernorm.register_forward_hook(lambda _, __, h: h.index_fill(-1, torch.tensor(0), 3.0))
        with torch.no_grad():
            block.mlp.gate.weight[:, 0] = torch.tensor([9.0, 8.0, 0.0, 0.0, 0.0, 7.0])[: len(block.mlp.gate.weight)]
    chosen = []
    model.model.layers[2].mlp.gate.register_forward_hook(lambda _, __, found: chosen.append(found[2]))
    assert_equals_hooks(model, ("wavefront", "rows"), edits_of(model))
    assert {tuple(sorted(each.unique().tolist())) for each in chosen} == {(0, 1) if family == "mixtral" else (0, 1, 5)}


SIDE_BY_SIDE = ("cohere", "cohere2", "falcon", "gpt_neox", "gptj", "phi")


@pytest.mark.parametrize("family", [*SIDE_BY_SIDE, "granite", "granitemoe", "llama", "opt"])
def test_what_is_added_at_a_site_is_added_to_the_residual(family):
    """The MLP's output times the family's multiplier; attention's too, where the MLP does not read it."""
    model = random_model(family)
    factor = getattr(model.config, "residual_multiplier", 1.0)
    copies = [Counterfactual((Edit("add", site, 1, '"last"', strength, "v"),))
              for site, strength in (("resid_post", factor), ("mlp_out", 1.0), ("attn_out", 1.0))]  # fmt: skip
    prompts = unequal_prompts()[:2]
    reads, logits = run(LocalEngine(model, build()), "wavefront", prompts, copies)
    first = {(read.prompt, read.copy): x for read, x in zip(reads, logits, strict=True) if read.token == 0}
    for prompt in range(len(prompts)):
        torch.testing.assert_close(first[prompt, 1], first[prompt, 0], atol=TOLERANCE, rtol=TOLERANCE)
        apart = (first[prompt, 2] - first[prompt, 0]).abs().max()
        assert apart < TOLERANCE if family in SIDE_BY_SIDE else apart > 1e-3
