"""Small GGUF files as llama.cpp's converter writes them, of random models of the Llama family."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFWriter

from tests.models import byte_level_tokenizer, random_model

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
