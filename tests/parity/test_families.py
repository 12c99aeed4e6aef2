"""What a row of the architecture table promises, on every family: padding, windows, heads, half precision."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaMLP

from patchboard.embedded.tokenizer import build
from patchboard.engine.families import ARCHITECTURES, at_path, head_dim_of
from patchboard.engine.local import LocalEngine
from patchboard.errors import ModelError
from patchboard.plan.cells import Edit
from patchboard.plan.model import Counterfactual
from patchboard.plan.packing import EngineKind, lay_out
from tests.hooks import hooked_logits
from tests.models import SIZES, WINDOW, random_model, unequal_prompts

TOLERANCE = 1e-5
"""Of the largest logit, in float32: sums in another order."""

FAMILIES = sorted(SIZES)
PACKED = [family for family in FAMILIES if ARCHITECTURES[family].packs]
WINDOWED = [family for family in PACKED if ARCHITECTURES[family].mask != "full"]
COPIES = (
    Counterfactual(),
    *(Counterfactual((Edit("add", "resid_post", layer, '"last"', 1.0, "v"),)) for layer in range(4)),
)


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=TOLERANCE * max(1.0, expected.abs().max().item()), rtol=TOLERANCE)


def ways_of(family: str) -> tuple[EngineKind, ...]:
    return ("wavefront", "rows") if ARCHITECTURES[family].packs else ("rows",)


def vector() -> torch.Tensor:
    return torch.randn(48, generator=torch.Generator().manual_seed(1))


def run(engine: LocalEngine, way: EngineKind, copies=COPIES):
    """(reads, their logits [read, vocab]) of the unequal prompts."""
    prompts = unequal_prompts()
    layout = lay_out(prompts, [-1] * len(prompts), copies, way)
    _, found = engine.forward(layout, engine.place({"v": vector()}), {"logits": lambda logits, *_: logits})
    return layout.reads, found["scores"]["logits"]


def clean_logits(engine: LocalEngine, way: EngineKind) -> torch.Tensor:
    """[prompt, vocab] at each prompt's last token."""
    reads, logits = run(engine, way)
    return torch.stack([x for read, x in zip(reads, logits, strict=True) if read.copy == 0 and read.token == 0])


def padded(side: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and attention mask of the unequal prompts without their answers, as a tokenizer would pad them."""
    rows = [prompt.token_ids for prompt in unequal_prompts()]
    assert len({len(row) for row in rows}) > 3
    tokens, mask = torch.zeros(2, len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(-len(row), None) if side == "left" else slice(len(row))
        tokens[i, where], mask[i, where] = torch.tensor(row), 1
    return tokens, mask


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_plain_model_on_left_padded_prompts(family):
    """The usual way to call it: tokens padded on the left, the mask, positions counted from the mask."""
    model = random_model(family)
    tokens, mask = padded("left")
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    plain = model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False).logits[:, -1]
    for way in ways_of(family):
        assert_close(clean_logits(LocalEngine(model, build()), way), plain)
    if family == "gpt2":  # learned positions: without them the comparison above would fail
        without = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[:, -1]
        assert (without - plain).abs().max() > 0.1


@pytest.mark.parametrize("family", WINDOWED)
def test_the_window_is_kept_and_would_be_missed(family):
    """Packed equals hooks (which let the model make its own masks); with any other form of the mask it would not."""
    model, prompts = random_model(family), unequal_prompts()
    assert min(len(prompt.token_ids) for prompt in prompts) > WINDOW
    engine = LocalEngine(model, build())
    right = clean_logits(engine, "wavefront")
    oracle = torch.stack([hooked_logits(model, prompt, Counterfactual(), {})[0] for prompt in prompts])
    assert_close(right, oracle)

    row, window = engine.wiring.architecture, engine.wiring.window
    engine.wiring.window = 0
    if row.mask == "window":
        assert (clean_logits(engine, "wavefront") - right).abs().max() > 1e-2
    else:  # the block asks for the kind of mask that was left out
        with pytest.raises(Exception, match="sliding_attention"):
            clean_logits(engine, "wavefront")
    engine.wiring.window = window + 1
    assert (clean_logits(engine, "wavefront") - right).abs().max() > 1e-2
    engine.wiring.window = window
    for other in {"full", "window"} - {row.mask}:
        engine.wiring.architecture = replace(row, mask=other)
        assert (clean_logits(engine, "wavefront") - right).abs().max() > 1e-2, other


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_tied_and_untied_embeddings(family, tied):
    model = random_model(family, tie_word_embeddings=tied)
    shared = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert shared == tied
    prompts, operands = unequal_prompts(), {"v": vector()}
    for way in ways_of(family):
        reads, logits = run(LocalEngine(model, build()), way)
        for read, got in zip(reads, logits, strict=True):
            if read.token == 0 and read.copy in (0, 3):
                expected = hooked_logits(model, prompts[read.prompt], COPIES[read.copy], operands)[0]
                assert_close(got, expected)


class _TensorAttention(LlamaAttention):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs)[0]


class _TupleMLP(LlamaMLP):
    def forward(self, x):
        return super().forward(x), None


class _OtherWayRound(LlamaDecoderLayer):
    """Llama's block with outputs of the kinds that other versions have: attention a tensor, MLP a tuple."""

    def forward(self, hidden_states, **kwargs):
        h = hidden_states + self.self_attn(hidden_states=self.input_layernorm(hidden_states), **kwargs)
        return h + self.mlp(self.post_attention_layernorm(h))[0]


@pytest.mark.parametrize("way", ["wavefront", "rows"])
@pytest.mark.parametrize("site", ["attn_out", "mlp_out", "resid_pre", "resid_post"])
def test_tuple_and_tensor_outputs_are_told_by_value(site, way):
    copies = (Counterfactual(), Counterfactual((Edit("add", site, 1, '"last"', 1.0, "v"),)))
    _, expected = run(LocalEngine(random_model("llama"), build()), way, copies)
    model = random_model("llama")  # anew: nnsight leaves the forward methods it found on the modules
    for block in model.model.layers:
        block.__class__, block.self_attn.__class__, block.mlp.__class__ = _OtherWayRound, _TensorAttention, _TupleMLP
    _, got = run(LocalEngine(model, build()), way, copies)
    torch.testing.assert_close(got, expected, atol=0, rtol=0)
    assert (got[0] - got[len(got) // 2]).abs().max() > 1e-3


@pytest.mark.parametrize("family", PACKED)
def test_bfloat16_packing_adds_no_more_than_bfloat16_itself(family):
    """Rows in bfloat16 differ from float32 by 0.009 to 0.030 here, packed from rows by at most 0.023: three steps of
    bfloat16 at logits of size 2 (0.0078 each), from sums in another order.

    With experts, rounding changes which of them some tokens go to, between float32 and bfloat16 (0.42 at most was seen)
    and between two ways alike; half of the reads are as close as without."""
    model = random_model(family)
    experts = hasattr(model.config, "num_experts_per_tok")

    def apart(a: torch.Tensor, b: torch.Tensor) -> float:
        each = (a - b).abs().amax(-1)
        return (each.median() if experts else each.max()).item()

    _, exact = run(LocalEngine(model, build()), "rows")
    engine = LocalEngine(model.bfloat16(), build())
    reads, rows = run(engine, "rows")
    own, largest = apart(rows, exact), (rows - exact).abs().max().item()
    assert 0 < own < 0.1 and largest < 0.5
    top = rows.topk(2).values
    same, packed = run(engine, "wavefront")
    assert [(r.prompt, r.copy) for r in same] == [(r.prompt, r.copy) for r in reads]
    assert apart(packed, rows) < 2 * own and (packed - rows).abs().max() < 2 * largest
    flipped = packed.argmax(-1) != rows.argmax(-1)
    near_tie = top[:, 0] - top[:, 1] < 2 * largest
    assert not (flipped & ~near_tie).any() and flipped.float().mean() < 0.1


def _value_weights(family: str, model) -> torch.Tensor:
    """Weights that make the first key-value head's values, in the first block: […] to be changed in place."""
    size = head_dim_of(model.config)
    attention = at_path(model, f"{ARCHITECTURES[family].decoder}.{ARCHITECTURES[family].blocks}")[0]
    attention = at_path(attention, ARCHITECTURES[family].attention)
    if family == "gpt2":  # Conv1D [in, query | key | value]
        return attention.c_attn.weight[:, 2 * 48 : 2 * 48 + size]
    if family == "gpt_neox":  # [head x (query | key | value), in]
        return attention.query_key_value.weight[2 * size : 3 * size]
    if family == "falcon":  # [key-value head x (its 2 queries | key | value), in]
        return attention.query_key_value.weight[3 * size : 4 * size]
    if family == "phi3":  # [query | key | value, in]
        return attention.qkv_proj.weight[(4 + 2) * size : (4 + 3) * size]
    return attention.v_proj.weight[:size]


@torch.no_grad()
@pytest.mark.parametrize("family", PACKED)
def test_the_input_of_attention_out_is_in_head_order(family):
    """Other values for one key-value head change the part of the heads that use it, and no other head's."""
    model = random_model(family)
    row, config = ARCHITECTURES[family], model.config
    module = at_path(at_path(model, f"{row.decoder}.{row.blocks}")[0], row.attention_out)
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    tokens, mask = padded("right")
    model(input_ids=tokens, attention_mask=mask, use_cache=False)
    _value_weights(family, model).mul_(-2)
    model(input_ids=tokens, attention_mask=mask, use_cache=False)
    handle.remove()
    assert seen[0].shape == (*tokens.shape, config.num_attention_heads * head_dim_of(config))
    moved = (seen[1] - seen[0])[mask.bool()].unflatten(-1, (config.num_attention_heads, -1)).abs().amax((0, 2))
    named = (getattr(config, name, None) for name in ("num_key_value_heads", "num_kv_heads"))
    users = config.num_attention_heads // next(filter(None, named), config.num_attention_heads)
    assert (moved[:users] > 1e-3).all() and (moved[users:] == 0).all()


@torch.no_grad()
def test_state_space_models_need_no_positions_and_no_mask_on_the_right():
    model = random_model("mamba2")
    tokens, mask = padded("right")
    last = torch.arange(len(tokens)), mask.sum(-1) - 1
    masked = model(input_ids=tokens, attention_mask=mask, use_cache=False).logits[last]
    bare = model(input_ids=tokens, use_cache=False).logits[last]
    placed = model(input_ids=tokens, attention_mask=mask, position_ids=tokens, use_cache=False).logits[last]
    alone = torch.stack([model(torch.tensor([p.token_ids]), use_cache=False).logits[0, -1] for p in unequal_prompts()])
    assert_close(masked, alone)
    assert_close(bare, masked)
    assert torch.equal(placed, masked)
    left, left_mask = padded("left")  # the other side does need it: both sides of the claim
    assert (model(input_ids=left, use_cache=False).logits[:, -1] - alone).abs().max() > 1e-2


def test_a_state_space_model_refuses_to_be_packed():
    """Given a mask for copies it would drop it, and copies would see each other."""
    with pytest.raises(ModelError, match="cannot be packed"):
        run(LocalEngine(random_model("mamba2"), build()), "wavefront")


def test_a_float32_residual_stream_meets_a_bfloat16_head():
    """Mamba-2 in bfloat16 keeps its states in float32 and casts before its head; so does the engine."""
    model = random_model("mamba2").bfloat16()
    assert model.config.residual_in_fp32
    reads, logits = run(LocalEngine(model, build()), "rows", (Counterfactual(),))
    prompts = unequal_prompts()
    for read, got in zip(reads, logits, strict=True):
        if read.token == 0:
            torch.testing.assert_close(
                got, hooked_logits(model, prompts[read.prompt], Counterfactual(), {})[0], atol=0.3, rtol=0
            )
