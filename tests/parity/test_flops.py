"""The plan's FLOPs against PyTorch's own counter over the real passes of every family."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import ARCHITECTURES, architecture_of, at_path
from patchboard.engine.load import facts_of
from patchboard.engine.local import LocalEngine
from patchboard.metrics.logprob import Logprob
from patchboard.plan.cells import Edit
from patchboard.plan.cost import cost_of
from patchboard.plan.flops import block_numbers, causal_work, flops_of
from patchboard.plan.model import Counterfactual, Decoding, Fit, Group, ModelPlan
from patchboard.plan.packs import Budget, default_budget, packs_of
from patchboard.spec.sections import DecodabilitySection, ModelSection
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.base import Place
from tests.models import SIZES, random_model, shared_prompts, unequal_prompts

KINDS = ("llama", "gemma2", "qwen3_moe", "gpt2", "mamba2")
"""Grouped queries; eager attention; experts in some blocks; fused projections, no gate, a tied head; no attention."""


def families(fast: Sequence[str]) -> list:
    """All of the registry that have sizes, those that are not ``fast`` marked slow."""
    return [
        pytest.param(family, marks=[] if family in fast else pytest.mark.slow)
        for family in ARCHITECTURES
        if family in SIZES
    ]


def _attention(query, key, value, *more, out_shape=None, **named):
    """Of the kernel behind torch's attention on a CPU, which its counter doesn't know: a causal one skips half."""
    batch, heads, tokens, size = query
    causal = named.get("is_causal", more[1] if len(more) > 1 else False)
    return 4 * batch * heads * size * (tokens * (tokens + 1) // 2 if causal else tokens * key[-2])


def _experts(states, matrices, *_, out_shape=None, **__):
    return 2 * states[0] * matrices[-2] * matrices[-1]


_COUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._grouped_mm: _experts,
}


def counted(work) -> dict[str, int]:
    """Kind of operation -> FLOPs."""
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=_COUNTED) as counter:
        work()
    return {str(kind): flops for kind, flops in counter.get_flop_counts()["Global"].items()}


def model_of(family: str, **settings):
    wide = {"sliding_window": 1000} if "sliding_window" in SIZES[family] else {}  # windows are not looked at
    model = random_model(family, **wide, **settings)
    return model, facts_of(ModelSection(), model.config)


def must_be(found: dict[str, int], planned: int, family: str) -> None:
    """Equal, or as near as what the formula leaves out: routers of experts, scans of state-space models."""
    if family == "mamba2":
        found = {kind: flops for kind, flops in found.items() if kind == "aten.mm"}
    total = sum(found.values())
    exact = not SIZES[family].get("num_experts_per_tok")
    assert planned == total if exact else 0.985 * total < planned < total


def _edit(layer: int, position: str, operand: str = "v") -> Edit:
    return Edit("patch", "resid_post", layer, f'"{position}"', 1.0, operand)


COPIES = (
    Counterfactual(),
    *(Counterfactual((_edit(layer, "last"),)) for layer in range(4)),
    *(Counterfactual((_edit(layer, "query"),)) for layer in range(3)),
    Counterfactual((_edit(1, "last"),), "B"),
)
GIVEN = (*COPIES, *(Counterfactual((_edit(layer, "last", "@C"),)) for layer in range(2)))
"""Some of which take states of another prompt's unedited run."""


def plan_of(facts, copies=COPIES, prompts=None, **more) -> ModelPlan:
    prompts = tuple(unequal_prompts() if prompts is None else prompts)
    donors = {"C": prompts[::-1]} if any(edit.operand == "@C" for copy in copies for edit in copy.edits) else {}
    group = Group("g", "A", 0, 0, prompts, (-1,) * len(prompts), copies, 0, (), ("logprob",), donors=donors)
    parts = {"groups": (group,), "fits": (), "decodings": ()} | more
    return ModelPlan(ModelSection(), facts, parts["groups"], parts["fits"], {}, parts["decodings"], {})


@pytest.mark.parametrize("family", families(KINDS))
def test_a_blocks_matrices_are_those_of_the_model(family):
    """What every token goes through; of experts, as many as it is sent to."""
    model, facts = model_of(family)
    blocks = at_path(at_path(model, architecture_of(model.config).decoder), architecture_of(model.config).blocks)
    chosen = SIZES[family].get("num_experts_per_tok", 0)
    numbers = []
    for block in blocks:
        of_matrices = {name: p for name, p in block.named_parameters() if p.dim() > 1 and "conv" not in name}
        if chosen:
            of_matrices = {n: p for n, p in of_matrices.items() if "router" not in n and n != "mlp.gate.weight"}
        experts = [p for p in of_matrices.values() if p.dim() == 3]
        whole = sum(p.numel() for name, p in of_matrices.items() if p.dim() == 2 and "bias" not in name)
        numbers.append(whole + sum(p.numel() // p.shape[0] * chosen for p in experts))
    assert numbers == block_numbers(facts).tolist()


@pytest.mark.parametrize("family", families(KINDS[:-1]))
@pytest.mark.parametrize("copies", [COPIES, GIVEN], ids=["vectors", "states"])
def test_packed_passes_compute_what_was_planned(family, copies):
    """In one large pack and in many small ones, attention in parts or with a dense mask, wavefront and rows."""
    model, facts = model_of(family)
    engine = LocalEngine(model, build())
    plan = plan_of(facts, copies)
    operands = engine.place({"v": torch.zeros(facts.width)})
    for way, budget in (("auto", default_budget(facts)), ("auto", Budget(tokens=60)), ("rows", Budget(tokens=200))):
        engine.budget, engine.sparse = budget, budget.sparse and facts.sparse
        found: dict[str, int] = {}
        for pack in packs_of(plan.groups[0], facts, way, budget):
            of_pack = counted(lambda p=pack: engine.score_pack(plan.groups[0], p, operands, {"s": Logprob.score}))
            found = {kind: found.get(kind, 0) + of_pack.get(kind, 0) for kind in {*found, *of_pack}}
        cost = cost_of(plan, way, budget)
        must_be(found, cost.flops, family)
        assert 0 < cost.bound_flops < cost.flops  # prompts are of unequal length, so there is padding


@pytest.mark.parametrize("family", KINDS)
def test_fits_and_decodings_compute_what_was_planned(family):
    model, facts = model_of(family)
    prompts = {"A": tuple(shared_prompts())}
    fit = Fit("f", prompts, ("A",), 2, (0, 2), (Place("resid_post", '"last"'),), False)
    decoding = Decoding("d", DecodabilitySection(k=1, prompts=3, shots=[0, 2]), prompts, ())
    engine = LocalEngine(model, build())
    for tokens in (8192, 30):  # in one pass, in several
        engine.budget = Budget(tokens=tokens, streamed=True)
        found = counted(lambda: (engine.fit([fit]), engine.decode(decoding, lambda states: None)))
        plan = plan_of(facts, groups=(), fits=(fit,), decodings=(decoding,))
        must_be(found, cost_of(plan, "auto", engine.budget).flops, family)


def test_a_sweep_at_the_last_token_is_at_the_bound():
    """Prompts of one length: no padding. What is left over is a pair for each copy that its mask shuts, with the clean
    state in whose place it stands, and the read-out of the end of each row by the model's forward."""
    _, facts = model_of("llama")
    tokens, rows = 7, 3
    prompts = [
        Prompt("A", "", "", tuple(range(2 + i, 2 + i + tokens)), (5,), {"last": (tokens - 1,)}) for i in range(rows)
    ]
    copies = (Counterfactual(), *(Counterfactual((_edit(layer, "last"),)) for layer in range(4)))
    cost = cost_of(plan_of(facts, copies, prompts), "auto", default_budget(facts))
    there = sum(4 - layer - 1 for layer in range(4))
    masked = 4 * facts.heads * facts.head_dim * rows * there
    assert cost.flops - cost.bound_flops == masked + 2 * rows * facts.width * facts.vocab
    literal = causal_work(4, 0, tokens).times(rows)  # the clean runs, then each copy's one token, and five reads
    tokens_of_copies = 2 * rows * there * int(block_numbers(facts)[0])
    reads = 2 * 5 * rows * facts.width * facts.vocab
    pairs = 4 * facts.heads * facts.head_dim * rows * there * tokens
    assert cost.bound_flops == flops_of(literal, facts) + tokens_of_copies + pairs + reads


def test_states_of_another_prompt_cost_its_run_and_no_padding():
    """Its run stands behind the prompt's own; in a row of its own it would be as long as all copies together."""
    _, facts = model_of("llama")
    tokens, rows = 7, 2
    prompts = [
        Prompt("A", "", "", tuple(range(2 + i, 2 + i + tokens)), (5,), {"all": tuple(range(tokens))})
        for i in range(rows)
    ]
    given = (Counterfactual(), *(Counterfactual((_edit(layer, "all", "@C"),)) for layer in range(4)))
    cost = cost_of(plan_of(facts, given, prompts), "auto", default_budget(facts))
    assert cost.token_layers == cost.bound == rows * tokens * (2 * 4 + sum(4 - layer - 1 for layer in range(4)))
    matrices = 2 * cost.token_layers * int(block_numbers(facts)[0])
    assert matrices < cost.bound_flops < cost.flops < 1.1 * cost.bound_flops


def test_answers_of_other_tasks_are_read_once():
    """A copy that differs only in whose answer of one token is asked for reads nothing more."""
    _, facts = model_of("llama")
    prompt = Prompt("A", "", "", (2, 3, 4), (5,), {"last": (2,)}, alternatives={"B": (6,)})
    edited = (_edit(1, "last"),)
    alone, both = (
        cost_of(plan_of(facts, copies, [prompt]), "auto", default_budget(facts))
        for copies in (
            (Counterfactual(), Counterfactual(edited)),
            (Counterfactual(), Counterfactual(edited), Counterfactual(edited, "B")),
        )
    )
    assert alone.flops == both.flops and alone.bound_flops == both.bound_flops
    longer = Prompt("A", "", "", (2, 3, 4), (5,), {"last": (2,)}, alternatives={"B": (6, 7)})
    more = cost_of(plan_of(facts, (Counterfactual(), Counterfactual(edited, "B")), [longer]), "auto", Budget())
    assert more.bound_flops > alone.bound_flops  # two reads, of two tokens


def test_a_tied_head_is_a_product_as_any_other():
    costs = {
        tied: cost_of(plan_of(model_of("llama", tie_word_embeddings=tied)[1]), "auto", Budget()).flops
        for tied in (True, False)
    }
    assert costs[True] == costs[False]


def test_experts_count_where_a_token_is_sent_to_them():
    """Twice the experts a token: the MLPs' part doubles in blocks that have experts, and nowhere else."""
    few, many = (model_of("qwen3_moe", num_experts_per_tok=n)[1] for n in (2, 4))
    grown = block_numbers(many) - block_numbers(few)
    inner = 3 * few.width * 2 * 32
    assert grown.tolist() == [inner, 0, inner, inner]
    assert np.all(block_numbers(few) > 0)
