"""GGUF files as models: the same numbers as the model that they were written from, or one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import polars as pl
import pytest
import torch
from gguf import GGUFWriter

from patchboard.engine.load import load_weights, open_model
from patchboard.engine.source import source_of
from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree
from tests.models import byte_level_tokenizer, random_model

TOKENS = torch.arange(3, 12)[None]
_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
_OUTER = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
          "lm_head.weight": "output.weight"}  # fmt: skip


def llama(**settings: Any) -> Any:
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "vocab_size": 300, "max_position_embeddings": 512}
    return random_model("llama", **(sizes | settings))


def tensors_of(model: Any) -> dict[str, np.ndarray]:
    """As llama.cpp's converter names and orders them: rows of q and k are in pairs that rotate together."""
    found = {}
    for name, value in model.state_dict().items():
        array = value.numpy()
        if name in _OUTER:
            found[_OUTER[name]] = array
            continue
        _, _, block, part = name.split(".", 3)
        part = part.removesuffix(".weight")
        heads = {
            "self_attn.q_proj": model.config.num_attention_heads,
            "self_attn.k_proj": model.config.num_key_value_heads,
        }
        if part in heads:
            shape = (heads[part], 2, array.shape[0] // heads[part] // 2, array.shape[1])
            array = array.reshape(shape).swapaxes(1, 2).reshape(array.shape)
        found[f"blk.{block}.{_NAMES[part]}.weight"] = array
    return found


def write(model: Any, file: Path, quantised: str = "", more: dict[str, Any] | None = None, **tensors: Any) -> Path:
    """quantised: ending of tensors to store in blocks of 8 bits. more: entries. tensors: added, __ for a dot."""
    config, writer = model.config, GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    tokenizer = byte_level_tokenizer()
    vocabulary = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    vocabulary += [f"<unused{i}>" for i in range(config.vocab_size - len(vocabulary))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token.startswith("<") and len(token) > 2 else 1 for token in vocabulary])
    merges = tokenizer.backend_tokenizer.to_str()
    writer.add_token_merges([" ".join(pair) for pair in json.loads(merges)["model"]["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(True)
    for key, value in (more or {}).items():
        {str: writer.add_string, float: writer.add_float32, int: writer.add_uint32}[type(value)](key, value)
    for name, array in (
        tensors_of(model) | {name.replace("__", "."): array for name, array in tensors.items()}
    ).items():
        if quantised and name.endswith(quantised):
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def loaded(file: Path) -> Any:
    return load_weights(ModelSection(name=str(file)), "cpu", "float32")


def refused(file: Path) -> str:
    with pytest.raises(ModelError) as error:
        loaded(file)
    assert error.value.where == "model.name"
    return error.value.one_line()


@pytest.mark.slow
def test_a_run_gives_the_numbers_of_the_model_it_was_written_from(tmp_path):
    model = llama()
    folder = tmp_path / "hf"
    model.save_pretrained(folder)
    byte_level_tokenizer().save_pretrained(folder)
    file = write(model, tmp_path / "tiny.gguf")
    for name, place in (("of-hf", folder), ("of-gguf", file)):
        assert run(tiny_tree(place), tmp_path / name) == 0
    tables = [[pl.read_parquet(tmp_path / out / f"{table}.parquet") for out in ("of-hf", "of-gguf")]
              for table in ("prompts", "effects")]  # fmt: skip
    prompts, effects = tables
    assert prompts[0].equals(prompts[1]), "the file's tokenizer is the folder's"
    for column in ("clean", "patched"):
        assert (effects[0][column] - effects[1][column]).abs().max() < 1e-5  # type: ignore[operator]
    manifest = manifest_of(tmp_path / "of-gguf")
    assert manifest["models"][0]["layers"] == 3 and len(manifest["identity"]["models"][str(file)][str(file)]) == 64


def test_blocks_are_unpacked_into_a_plain_model(tmp_path):
    model = llama()
    found = loaded(write(model, tmp_path / "q.gguf", quantised="ffn_up.weight"))
    kind = gguf.GGMLQuantizationType.Q8_0
    own = model.model.layers[1].mlp.up_proj.weight.detach().numpy()
    wanted = gguf.quants.dequantize(gguf.quants.quantize(own, kind), kind)
    assert np.array_equal(found.model.layers[1].mlp.up_proj.weight.detach().numpy(), wanted)
    assert not np.array_equal(own, wanted)
    assert found.dtype == torch.float32 and not hasattr(found.config, "quantization_config")


def test_scaled_rotary_positions(tmp_path):
    """Llama 3.1: the file has a factor for each frequency, which transformers' loader passes over."""
    scaled = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
              "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
    model = llama(rope_parameters=scaled)
    plain = 10000.0 ** -(np.arange(8) / 8)
    factors = plain / model.model.rotary_emb.inv_freq.numpy()
    assert factors.max() == pytest.approx(8) and factors.min() == pytest.approx(1)
    file = write(model, tmp_path / "r.gguf", rope_freqs__weight=factors)
    with torch.no_grad():
        tokens = torch.arange(0, 250)[None]
        wanted, unscaled = model(tokens).logits, llama()(tokens).logits
        assert (loaded(file)(tokens).logits - wanted).abs().max() < 1e-4 < (wanted - unscaled).abs().max()


UNREAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a tensor": ({}, {"blk__0__attn_q__bias": np.ones(64)}, "reads its tensor blk.0.attn_q.bias"),
    "a norm": ({}, {"blk__0__attn_q_norm__weight": np.ones(16)}, "reads its tensor blk.0.attn_q_norm.weight"),
    "scaling": ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}, {},
                "does not read its entry llama.rope.scaling.factor: 4.0, and takes 1.0"),
    "an unknown entry": ({"llama.logit_scale": 0.0625}, {}, "does not read its entry llama.logit_scale (0.0625)"),
    "heads of another width": ({"llama.attention.key_length": 32}, {}, "key_length: 32, and takes 16"),
    "a part": ({"split.count": 3}, {}, "is one of 3 parts of a model; join them"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREAD)
def test_what_the_loader_passes_over_is_refused(case, tmp_path):
    more, tensors, says = UNREAD[case]
    assert says in refused(write(llama(), tmp_path / "x.gguf", more=more, **tensors))


def test_a_tokenizer_of_an_unknown_kind_is_told(tmp_path):
    file = write(llama(), tmp_path / "t.gguf", more={"tokenizer.ggml.pre": "their-own"})
    (note,) = open_model(ModelSection(name=str(file)))[1].notes
    assert "('their-own') splits text before merging" in note


def test_a_file_cut_short(tmp_path):
    file = write(llama(), tmp_path / "c.gguf")
    file.write_bytes(file.read_bytes()[:200])
    assert "cannot be read as GGUF" in refused(file)
    file.write_bytes(b"no such format")
    assert "cannot be read as GGUF" in refused(file)


def test_not_on_a_server(tmp_path, capsys):
    file = write(llama(), tmp_path / "r.gguf")
    assert source_of(ModelSection(name=str(file))) == (str(tmp_path), {"gguf_file": "r.gguf"})
    assert run(tiny_tree(file), tmp_path / "out", "--remote", "http://127.0.0.1:9") == 2
    assert "a GGUF file is on no server" in one_error(capsys)
