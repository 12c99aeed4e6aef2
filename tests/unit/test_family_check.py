"""Rows of the architecture table against loaded models: right rows pass, wrong ones are named in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from patchboard.engine.families import ARCHITECTURES, architecture_of, mlp_width_of
from patchboard.engine.family_check import check_architecture
from patchboard.engine.load import context_of
from patchboard.errors import ModelError
from patchboard.spec.sites import SITES
from tests.models import SIZES, random_model


def error_of(call, *args) -> str:
    with pytest.raises(ModelError) as caught:
        call(*args)
    line = caught.value.one_line()
    assert "\n" not in str(caught.value) and line.startswith("model.name: ")
    return line


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", sorted(SIZES))
def test_every_row_fits_its_model(family, dtype):
    model = random_model(family).to(dtype).train()
    check_architecture(model, ARCHITECTURES[family])
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


WRONG = {
    "decoder": ("llama", dict(decoder="transformer"), "module 'transformer', found model, lm_head in Llama"),
    "blocks": ("gpt2", dict(blocks="layers"), "module 'transformer.layers', found wte, wpe, drop, h, ln_f in"),
    "attention": ("llama", dict(attention="attn"), "module 'model.layers.0.attn', found self_attn, mlp,"),
    "norm": ("gpt_neox", dict(norm="norm"), "module 'gpt_neox.norm', found embed_in,"),
    "head": ("gpt2", dict(head="embed_out"), "module 'embed_out', found transformer, lm_head in GPT2LMHeadModel"),
    "attention_out": ("gpt2", dict(attention_out="attn.o_proj"), "found c_attn, c_proj,"),
    "attention shape": ("llama", dict(attention="self_attn.k_proj"), "of shape [2, 3, 48], found [2, 3, 24]"),
    "mlp shape": ("llama", dict(mlp="mlp.up_proj"), "output of 'model.layers.0.mlp.up_proj' of shape"),
    "attention_out shape": ("qwen3", dict(attention_out="mlp.down_proj"), "of shape [2, 3, 64], found [2, 3, 96]"),
    "blocks flow": ("llama", dict(norm="layers.3.input_layernorm"), "as the first positional input of"),
    "norm flow": ("llama", dict(norm="layers.3.post_attention_layernorm"), "other values"),
    "head flow": ("llama", dict(head="model.embed_tokens"), "first positional input of 'model.embed_tokens'"),
    "q shape": ("llama", dict(q="self_attn.k_proj"), "of shape [2, 3, 48], found [2, 3, 24]"),
    "v shape": ("llama", dict(v="self_attn.o_proj"), "of shape [2, 3, 24], found [2, 3, 48]"),
    "mlp_up shape": ("llama", dict(mlp_up="self_attn.o_proj"), "of shape [2, 3, 96], found [2, 3, 48]"),
    "mlp_down shape": ("opt", dict(mlp_down="fc1"), "an input of 'model.decoder.layers.0.fc1' of shape [2, 3, 96]"),
    "not called": ("gpt2", dict(mlp="attn.attn_dropout"), "a call of 'transformer.h.0.attn.attn_dropout'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_row_is_named(case):
    family, changes, text = WRONG[case]
    line = error_of(check_architecture, random_model(family), replace(ARCHITECTURES[family], **changes))
    assert "looked for" in line and text in line
    assert f"correct `{next(iter(changes))}` in the row '{family}' of interventions/engine/families.py" in line


def test_a_checkpoint_with_another_number_of_blocks():
    model = random_model("llama")
    model.config.num_hidden_layers = 3
    assert "the 3 blocks of its configuration, found 4" in error_of(check_architecture, model, ARCHITECTURES["llama"])


LAID_OUT_OTHERWISE = {
    "no norm at the end": (dict(_remove_final_layer_norm=True), "correct `norm`"),
    "norms behind, no narrowing": (dict(do_layer_norm_before=False), "correct `norm`"),
    "narrowed behind the norm": (dict(word_embed_proj_dim=32), "correct `head`"),
}


@pytest.mark.parametrize("case", LAID_OUT_OTHERWISE)
def test_a_checkpoint_that_its_familys_row_does_not_fit(case):
    settings, text = LAID_OUT_OTHERWISE[case]
    model = random_model("opt", **settings)
    line = error_of(check_architecture, model, architecture_of(model.config))
    assert text in line and "or give a checkpoint that is laid out as most of its family" in line


@pytest.mark.parametrize(
    ("family", "settings", "width"),
    [
        ("llama", {}, 96),
        ("gpt2", {}, 0),
        ("gpt2", {"n_inner": 64}, 64),
        ("gptj", {"n_inner": 64}, 64),
        ("opt", {}, 96),
        ("falcon", {}, 4 * 48),
        ("mixtral", {}, 2 * 96),
        ("gpt_oss", {}, 2 * 96),
        ("qwen3_moe", {}, 3 * 32),
        ("mamba2", {}, 0),
    ],
)
def test_the_width_of_a_familys_mlp(family, settings, width):
    assert mlp_width_of(AutoConfig.for_model(family, **{**SIZES[family], **settings})) == width


@pytest.mark.parametrize("family", ["gptj", "opt"])
def test_learned_positions_bound_the_context(family):
    assert context_of(AutoConfig.for_model(family, **SIZES[family])) == 128


def test_a_model_that_looks_ahead_is_refused():
    model = random_model("gemma3_text", use_bidirectional_attention=True, sliding_window=9)
    assert "looks ahead" in error_of(check_architecture, model, ARCHITECTURES["gemma3_text"])


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("llama4_text", "looked for model_type 'llama4_text' among cohere, cohere2,"),
        ("olmo_hybrid", "(nearest: olmo"),
        ("gemma3", "'gemma3' is a multimodal model around a language model of family 'gemma3_text'"),
        ("llava", "around a language model of family 'llama'"),
        ("t5", "encoder-decoder"),
    ],
)
def test_an_unknown_family_is_told_what_there_is(family, text):
    line = error_of(architecture_of, AutoConfig.for_model(family))
    assert text in line
    assert ("add a row Architecture(" in line) == ("looked for" in line)


def test_families_tell_which_sites_they_lack():
    mamba, llama = ARCHITECTURES["mamba2"], ARCHITECTURES["llama"]
    assert {site: mamba.lacks(site) for site in SITES if mamba.lacks(site)} == {
        **dict.fromkeys(("q", "k", "v", "pattern", "head"), "attention heads"),
        **dict.fromkeys(("mlp_pre", "mlp_act", "mlp_out"), "MLP"),
    }
    assert not any(llama.lacks(site) for site in SITES)
    mixtral = ARCHITECTURES["mixtral"]
    assert {site for site in SITES if mixtral.lacks(site)} == {"mlp_pre", "mlp_act"}
    assert mixtral.lacks("mlp_act") == "MLP of one set of neurons"
