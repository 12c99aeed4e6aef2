"""Every tensor of a checkpoint is read, or is known to be harmless: cases of what the Hub has, on tiny models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from patchboard.engine.load import load_weights
from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection
from tests.models import SIZES, random_model

Weights = dict[str, torch.Tensor]
TOKENS = torch.arange(3, 9)[None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Callable[..., Path]:
    """family, settings -> a folder with a random model of two layers, made once."""
    made: dict[str, Path] = {}

    def give(family: str, **settings: Any) -> Path:
        key = f"{family} {settings}"
        if key not in made:
            made[key] = tmp_path_factory.mktemp(family)
            random_model(family, num_hidden_layers=2, **settings).save_pretrained(made[key])
        return made[key]

    return give


def changed(folder: Path, to: Path, change: Callable[[Weights], Any] = lambda weights: None, **config: Any) -> Path:
    """A copy with other weights and other fields in its configuration."""
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    change(weights)
    save_file({name: value.contiguous() for name, value in weights.items()}, to / "model.safetensors", {"format": "pt"})
    fields = json.loads((to / "config.json").read_text()) | config
    (to / "config.json").write_text(json.dumps(fields))
    return to


def loaded(folder: Path) -> Any:
    return load_weights(ModelSection(name=str(folder)), "cpu", "float32")


def refused(folder: Path) -> str:
    with pytest.raises(ModelError) as error:
        loaded(folder)
    assert error.value.where == "model.name"
    return error.value.one_line()


def add(name: str, value: torch.Tensor) -> Callable[[Weights], Any]:
    return lambda weights: weights.update({name: value})


def fp8(weights: Weights) -> None:
    for name in [name for name in weights if name.endswith("proj.weight")]:
        weights[name] = weights[name].to(torch.float8_e4m3fn)
        weights[f"{name}_scale_inv"] = torch.full((1, 1), 7.0)


def int8(weights: Weights) -> None:
    weights["model.layers.0.mlp.up_proj.weight"] = torch.ones(96, 48, dtype=torch.int8)


ATTENTION = "model.layers.0.self_attn"
UNREAD: dict[str, tuple[str, dict, Callable[[Weights], Any], dict, str]] = {
    # family, its settings, change of the weights, change of the configuration, what the line says
    "attention biases": ("llama", {"attention_bias": True}, lambda w: None, {"attention_bias": False},
                         f"holds {ATTENTION}.k_proj.bias and 7 more, which no part of a 'llama' model reads"),
    "MLP biases": ("llama", {"mlp_bias": True}, lambda w: None, {"mlp_bias": False},
                   "holds model.layers.0.mlp.down_proj.bias and 5 more"),
    "qwen 3 as llama": ("qwen3", {"use_sliding_window": False}, lambda w: None,
                        {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
                        f"holds {ATTENTION}.k_norm.weight and 3 more"),
    "sandwich norms": ("llama", {}, add("model.layers.1.pre_feedforward_layernorm.weight", torch.ones(48)), {},
                       "holds model.layers.1.pre_feedforward_layernorm.weight, which"),
    "fp8": ("llama", {}, fp8, {}, "is quantised (model.layers.0.mlp.down_proj.weight_scale_inv and 13 more)"),
    "int8": ("llama", {}, int8, {}, "is quantised (model.layers.0.mlp.up_proj.weight), its configuration has no"),
    "extra blocks": ("llama", {}, lambda w: None, {"num_hidden_layers": 1},
                     "has 1 layers and leaves out the checkpoint's model.layers.1.input_layernorm.weight and 8 more"),
    "a classifier": ("llama", {"tie_word_embeddings": True}, add("score.weight", torch.ones(2, 48)), {},
                     "holds score.weight, the head of a classifier"),
    "left of an adapter": ("llama", {}, add(f"{ATTENTION}.q_proj.lora_A.weight", torch.ones(2, 48)), {},
                           "parts of an adapter that was not merged"),
    # what transformers' own classes tell it to say nothing of
    "gpt2: no mask": ("gpt2", {}, add("transformer.h.1.attn.bias", torch.ones(144)), {},
                      "holds transformer.h.1.attn.bias, which no part of a 'gpt2' model reads"),
    "neox: no mask": ("gpt_neox", {}, add("gpt_neox.layers.0.attention.bias", torch.ones(48)), {},
                      "holds gpt_neox.layers.0.attention.bias, which"),
    "other frequencies": ("llama", {}, add(f"{ATTENTION}.rotary_emb.inv_freq", 500000.0 ** -(torch.arange(6) / 6)), {},
                          f"holds {ATTENTION}.rotary_emb.inv_freq, which"),
    "missing too": ("llama", {"attention_bias": True}, lambda w: w.pop("model.norm.weight"), {"attention_bias": False},
                    f"lacks the weight model.norm.weight, and nothing reads its {ATTENTION}.k_proj.bias and 7 more"),
    "two of a name": ("llama", {}, add("norm.weight", torch.ones(48) * 2), {}, "holds norm.weight and another model."),
    "another head": ("llama", {}, lambda w: None, {"tie_word_embeddings": True},
                     "ties lm_head.weight to model.embed_tokens.weight, its checkpoint has different values"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREAD)
def test_what_is_read_by_nobody_is_refused(case, saved, tmp_path):
    family, settings, change, config, says = UNREAD[case]
    line = refused(changed(saved(family, **settings), tmp_path / "m", change, **config))
    assert says in line, line


MASK = torch.ones(8, 8).tril()[None, None]
FREQUENCIES = 10000.0 ** -(torch.arange(6) / 6)
HARMLESS: dict[str, tuple[str, Callable[[Weights], Any]]] = {
    "gpt2 masks": ("gpt2", lambda w: w.update({"transformer.h.0.attn.bias": MASK.byte(),
                                               "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)})),
    "neox buffers": ("gpt_neox", lambda w: w.update({
        "gpt_neox.layers.0.attention.bias": MASK.bool(),
        "gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9),
    })),
    "frequencies": ("llama", add(f"{ATTENTION}.rotary_emb.inv_freq", FREQUENCIES.bfloat16())),
    "a picture's way in": ("llama", add("vision_tower.layers.0.weight", torch.ones(4, 4))),
    "the same twice": ("llama", lambda w: w.update({"norm.weight": w["model.norm.weight"].clone()})),
}  # fmt: skip


@pytest.mark.parametrize("case", HARMLESS)
def test_harmless_tensors_change_no_number(case, saved, tmp_path):
    family, change = HARMLESS[case]
    plain = saved(family)
    with torch.no_grad():
        model = loaded(changed(plain, tmp_path / "m", change))
        assert torch.equal(model(TOKENS).logits, loaded(plain)(TOKENS).logits)


def test_a_tied_head_may_be_stored_twice(saved, tmp_path):
    folder = saved("llama", tie_word_embeddings=True)
    copy = changed(
        folder, tmp_path / "m", lambda w: w.update({"lm_head.weight": w["model.embed_tokens.weight"].clone()})
    )
    with torch.no_grad():
        assert torch.equal(loaded(copy)(TOKENS).logits, loaded(folder)(TOKENS).logits)


@pytest.mark.parametrize("form", ["shards", "bin", "bin shards"])
def test_all_files_of_a_checkpoint_are_looked_at(form, saved, tmp_path):
    """The unread tensor stands in the last file; without it the checkpoint is good."""
    for name, extra in (("good", {}), ("bad", {"model.zz.weight": torch.ones(3)})):
        folder = tmp_path / name
        shutil.copytree(saved("llama"), folder)
        weights = load_file(folder / "model.safetensors") | extra
        (folder / "model.safetensors").unlink()
        write(weights, folder, form)
        if extra:
            assert "holds model.zz.weight, which no part" in refused(folder)
        else:
            loaded(folder)


def write(weights: Weights, folder: Path, form: str) -> None:
    if form == "bin":
        torch.save(weights, folder / "pytorch_model.bin")
        return
    kind, put = (".safetensors", save_file) if form == "shards" else (".bin", torch.save)
    stem = "model" if form == "shards" else "pytorch_model"
    names = sorted(weights)
    halves = {f"{stem}-1-of-2{kind}": names[:7], f"{stem}-2-of-2{kind}": names[7:]}
    for file, part in halves.items():
        put({name: weights[name] for name in part}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in halves.items() for name in part}}
    (folder / f"{stem}{kind}.index.json").write_text(json.dumps(index))


def test_a_weight_with_other_values_in_another_file(saved, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(saved("llama"), folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write(weights, folder, "shards")
    for factor, refusal in ((1, False), (2, True)):
        second = load_file(folder / "model-2-of-2.safetensors")
        save_file(second | {"lm_head.weight": weights["lm_head.weight"] * factor}, folder / "model-2-of-2.safetensors")
        if refusal:
            assert "its weight lm_head.weight has other values in" in refused(folder)
        else:
            loaded(folder)


@pytest.mark.slow
@pytest.mark.parametrize("family", SIZES)
def test_every_family_reads_what_it_saves(family, tmp_path):
    """Experts, renamed heads and joined projections too, which transformers converts on the way."""
    model = random_model(family)
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(tmp_path)(TOKENS).logits, model(TOKENS).logits)
