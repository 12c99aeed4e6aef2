"""`model.quantization` through bitsandbytes, where it is installed; one line where it is not."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from patchboard.engine.load import load_weights, open_model
from patchboard.engine.parameters import counted
from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree
from tests.models import random_model, save

TOKENS = torch.arange(3, 12)[None]


def section(folder: Path, quantization: Any) -> ModelSection:
    return ModelSection(name=str(folder), quantization=quantization)


def test_without_the_package(llama_folder, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError) as error:
        load_weights(section(llama_folder, "4bit"), "cpu", "float32")
    assert error.value.one_line() == (
        "model.quantization: 4bit needs the package bitsandbytes, which is not installed here;"
        " pip install 'patchboard[quantization]'"
    )


def test_a_checkpoint_that_is_quantised_already(llama_folder, tmp_path):
    folder = Path(shutil.copytree(llama_folder, tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ModelError, match=r"model.quantization: found 8bit, and the checkpoint itself .* \(gptq\)"):
        open_model(section(folder, "8bit"))


@pytest.mark.parametrize("field", [{"quantization": "8bit"}, {"adapter": "org/lora"}])
def test_not_on_a_server(field, llama_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("patchboard.engine.adapter.notes", lambda section: ())
    tree = tiny_tree(llama_folder)
    tree["model"] |= field
    assert run(tree, tmp_path / "out", "--remote", "http://127.0.0.1:9") == 2
    ((name, value),) = field.items()
    assert f"model.{name}: found {value}, and a host serves models as they are; leave it out" in one_error(capsys)


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory) -> Path:
    """Rows of 128 numbers: blocks of 64 share a scale."""
    return save(random_model("llama", hidden_size=128, intermediate_size=256), tmp_path_factory.mktemp("wide"))


@pytest.mark.slow
def test_four_bits_are_the_dequantised_weights(wide_folder):
    functional = pytest.importorskip("bitsandbytes").functional
    found = load_weights(section(wide_folder, "4bit"), "cpu", "float32")
    plain = load_weights(section(wide_folder, None), "cpu", "float32")
    assert counted(found) == counted(plain)
    with torch.no_grad():
        before = plain(TOKENS).logits
        for module in plain.model.layers.modules():
            if isinstance(module, torch.nn.Linear):
                packed = functional.quantize_4bit(module.weight.data, quant_type="nf4")
                module.weight.copy_(functional.dequantize_4bit(*packed))
        wanted, logits = plain(TOKENS).logits, found(TOKENS).logits
    size = wanted.abs().max()
    assert (logits - wanted).abs().max() < 0.05 * size, "on a CPU it computes in bfloat16"
    assert (before - wanted).abs().max() > 0.2 * size


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_run(quantization, wide_folder, tmp_path):
    pytest.importorskip("bitsandbytes")
    tree = tiny_tree(wide_folder)
    tree["model"]["quantization"] = quantization
    assert run(tree, tmp_path / "out") == 0
    assert manifest_of(tmp_path / "out")["models"][0]["quantization"] == quantization
