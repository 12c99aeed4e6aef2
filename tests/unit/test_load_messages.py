"""What is no loadable model is told by what it is, with what to do; nothing that was not looked at is blamed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from patchboard.engine.load import load_weights, open_model
from patchboard.engine.load_errors import explained
from patchboard.engine.source import source_of
from patchboard.errors import ModelError
from patchboard.spec.sections import ModelSection


def line_of(name: Path | str, weights: bool = False) -> str:
    section = ModelSection(name=str(name))
    with pytest.raises(ModelError) as error:
        load_weights(section, "cpu", "float32") if weights else open_model(section)
    return error.value.one_line()


def wrote(folder: Path, **files: str | dict) -> Path:
    """files: name (its last underscore is the dot) -> text, or what JSON is to hold."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        file = folder / ".".join(name.rsplit("_", 1))
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_an_adapter_as_a_model(tmp_path):
    folder = wrote(tmp_path / "lora", adapter_config_json={"peft_type": "LORA", "base_model_name_or_path": "org/base"})
    line = line_of(folder)
    assert f"the folder '{folder}' is an adapter of 'org/base', no model; " in line
    assert line.endswith(f"write model: {{name: org/base, adapter: {folder}}}")


def test_a_model_with_an_adapter_in_its_folder(llama_folder, tmp_path):
    """transformers alone would put the adapter on."""
    folder = Path(shutil.copytree(llama_folder, tmp_path / "m"))
    wrote(folder, adapter_config_json={"peft_type": "LORA"})
    assert "holds a model and an adapter (adapter_config.json); move the adapter's files" in line_of(folder)


def test_a_folder_of_gguf_files(tmp_path):
    folder = wrote(tmp_path / "g", **{"a-Q4_0_gguf": "GGUF", "b_gguf": "GGUF"})
    line = line_of(folder)
    assert "has no config.json, but a-Q4_0.gguf, b.gguf" in line and line.endswith(
        f"name the file: {folder}/a-Q4_0.gguf"
    )


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_of_a_model(file, llama_folder):
    line = line_of(llama_folder / file)
    assert f"'{llama_folder / file}' is a file, expected a folder; give its folder: {llama_folder}" in line


def test_weights_by_themselves(tmp_path):
    folder = wrote(tmp_path / "w", model_safetensors="x")
    assert "is a file, expected a folder (config.json is not beside it); give a folder that has" in line_of(
        folder / "model.safetensors"
    )
    assert "has no config.json, it holds model.safetensors; give a folder in the Hub's format" in line_of(folder)


def test_a_folder_of_checkpoints(llama_folder, tmp_path):
    shutil.copytree(llama_folder, tmp_path / "run" / "checkpoint-10")
    line = line_of(tmp_path / "run")
    assert "has no config.json, but checkpoint-10 within; name the model's own folder" in line


def test_an_unknown_model_type(tmp_path):
    line = line_of(wrote(tmp_path / "m", config_json={"model_type": "llamba"}))
    assert "its model_type 'llamba' is unknown to transformers 5." in line and "`patchboard ls` lists" in line
    assert "files are whole" not in line


def test_a_configuration_without_a_type(tmp_path):
    assert "names no model_type; give the config.json that belongs to the model" in line_of(
        wrote(tmp_path / "m", config_json={"hidden_size": 3})
    )


def test_a_damaged_configuration(tmp_path):
    assert "files are whole" in line_of(wrote(tmp_path / "m", config_json='{"model_type": "lla'))


def test_a_pointer_in_place_of_the_weights(llama_folder, tmp_path):
    folder = Path(shutil.copytree(llama_folder, tmp_path / "m"))
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    line = line_of(folder, weights=True)
    assert "model.safetensors of" in line and "is a Git LFS pointer, not the file itself; fetch the files" in line


def test_no_weights_and_no_tokenizer(llama_folder, tmp_path):
    folder = wrote(tmp_path / "m", config_json=json.loads((llama_folder / "config.json").read_text()))
    assert "has no tokenizer; save the model's tokenizer into it" in line_of(folder)
    assert "has no weights (" in line_of(folder, weights=True)


MISSING = [
    (ImportError("Using `bitsandbytes` 8-bit quantization needs it: `pip install -U bitsandbytes>=0.46.1`"),
     "needs a package that is not installed here", "pip install -U 'bitsandbytes>=0.46.1'"),
    (ImportError("Loading a GPTQ quantized model requires optimum (`pip install optimum`)"), "", "pip install optimum"),
    (ImportError("FlashAttention2 has been toggled on, but it cannot be used due to the following error: the package"
                 " flash_attn seems to be not installed."), "flash_attn", '"attn_implementation": "sdpa"'),
    (ValueError("`compressed-tensors` is not installed and is required"), "", "pip install compressed-tensors"),
    (RuntimeError("No GPU found. A GPU is needed for quantization."), "need a GPU (No GPU found.", "unquantised"),
    (MemoryError(), "do not fit into memory", "model.dtype: bfloat16"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "what", "remedy"), MISSING)
def test_what_the_machine_lacks_is_no_damage(error, what, remedy, llama_folder):
    found = explained(error, ModelSection(name=str(llama_folder)), str(llama_folder), "weights")
    assert what in found.what and remedy in found.remedy
    assert "files are whole" not in found.one_line()


def test_a_missing_package_end_to_end(llama_folder, tmp_path):
    """A checkpoint quantised for a package that is on no machine of ours."""
    folder = Path(shutil.copytree(llama_folder, tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    quantised = {"quant_method": "hqq", "weight_quant_params": {}}
    wrote(folder, config_json=config | {"quantization_config": quantised})
    line = line_of(folder, weights=True)
    assert "files are whole" not in line and "hqq" in line.lower()


@pytest.mark.parametrize("name", ["~/m/llama", "./m", "/m/llama", "a/b/c", "weights.gguf", "~nobody-here/m"])
def test_a_path_is_no_name_of_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert line_of(name).startswith(f"model.name: there is no folder '{name}'; ")


def test_the_home_folder_is_expanded(llama_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(llama_folder.parent))
    assert source_of(ModelSection(name=f"~/{llama_folder.name}")) == (str(llama_folder), {})
    assert open_model(ModelSection(name=f"~/{llama_folder.name}"))[1].layers == 4
