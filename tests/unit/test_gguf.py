"""GGUF files as models: the same numbers as the model that they were written from, or one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import polars as pl
import pytest
import torch

from patchboard.engine.load import load_weights, open_model
from patchboard.engine.source import source_of
from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree
from tests.gguf_files import llama, write
from tests.models import byte_level_tokenizer

TOKENS = torch.arange(3, 12)[None]


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
