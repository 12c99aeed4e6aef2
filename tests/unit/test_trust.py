"""A model's own code runs with --trust-remote-code and never without it; then the manifest says so."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from patchboard.commands.main import main
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write
from tests.scripts import ran

MODULE = """
import os, pathlib
pathlib.Path(os.environ["RAN"]).write_text("ran")
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

class Config(LlamaConfig):
    pass

class Model(LlamaForCausalLM):
    config_class = Config

class Tok(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def marker(tmp_path, monkeypatch) -> Path:
    """Written where the folder's code runs. Somebody answers y to every question."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "ran"


def with_code(folder: Path, to: Path, model_type: str = "", tokenizer: bool = False) -> Path:
    """A copy whose configuration (of this type, if one is given) or tokenizer is code of its own."""
    shutil.copytree(folder, to)
    (to / "own.py").write_text(MODULE)
    if model_type:
        config = json.loads((to / "config.json").read_text())
        classes = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}
        (to / "config.json").write_text(json.dumps(config | {"model_type": model_type, "auto_map": classes}))
    if tokenizer:
        config = json.loads((to / "tokenizer_config.json").read_text())
        of = {"tokenizer_class": "Tok", "auto_map": {"AutoTokenizer": [None, "own.Tok"]}}
        (to / "tokenizer_config.json").write_text(json.dumps(config | of))
    return to


@pytest.mark.parametrize("arguments", [(), ("--plan",), ("--plan", "--json"), ("--show-tokens",)])
def test_code_of_an_unknown_model_is_not_run(arguments, llama_folder, tmp_path, marker, capsys):
    folder = with_code(llama_folder, tmp_path / "m", "their_own")
    assert run(tiny_tree(folder), tmp_path / "out", *arguments) == 2
    line = one_error(capsys)
    assert "its configuration is Python code of its own, which is not run unasked; " in line
    assert "--trust-remote-code" in line
    assert not marker.exists() and not (tmp_path / "out").exists()


def test_validation_runs_no_code(llama_folder, tmp_path, marker):
    folder = with_code(llama_folder, tmp_path / "m", "their_own")
    assert main(["validate", write(tiny_tree(folder), tmp_path / "s.yaml")]) == 0
    assert not marker.exists()


def test_code_of_a_tokenizer_is_not_run(llama_folder, tmp_path, marker, capsys):
    folder = with_code(llama_folder, tmp_path / "m", tokenizer=True)
    assert run(tiny_tree(folder), tmp_path / "out", "--plan") == 2
    assert "its tokenizer is Python code of its own, which is not run unasked" in one_error(capsys)
    assert not marker.exists()


def test_code_beside_a_known_model_is_left_alone(llama_folder, tmp_path, marker):
    """Many repositories name code that transformers has had for long: its own classes are taken."""
    folder = with_code(llama_folder, tmp_path / "m", "llama")
    assert run(tiny_tree(folder), tmp_path / "out", "--plan") == 0
    assert not marker.exists()


def test_trusted_code_runs_and_is_in_the_manifest(llama_folder, tmp_path, marker, capsys):
    tree = tiny_tree(with_code(llama_folder, tmp_path / "m", "llama"))
    assert run(tree, tmp_path / "out", "--trust-remote-code") == 0
    assert marker.exists()
    manifest = manifest_of(tmp_path / "out")
    assert manifest["identity"]["trust_remote_code"] is True
    assert [len(digest) for name, digest in manifest["code"].items() if name.endswith(".own")] == [64]
    capsys.readouterr()
    assert run(tree, tmp_path / "out") == 2, "another run without it"
    assert "was run with --trust-remote-code; give --trust-remote-code too, --fresh" in one_error(capsys)
    assert run(tree, tmp_path / "out", "--trust-remote-code") == 0


def test_a_run_without_the_flag_is_not_gone_on_with_it(llama_folder, tmp_path, capsys):
    tree = tiny_tree(llama_folder, interventions={"z": {"op": "zero", "layers": 1}}, decodability=None)
    assert run(tree, tmp_path / "out") == 0
    assert manifest_of(tmp_path / "out")["identity"]["trust_remote_code"] is False
    capsys.readouterr()
    assert run(tree, tmp_path / "out", "--trust-remote-code") == 2
    assert "was run without --trust-remote-code" in one_error(capsys)


@pytest.mark.parametrize("script", ["patch_sweep.py", "heads.py", "scaling.py", "synthetic.py", "finetune.py"])
def test_every_script_knows_the_flag(script):
    assert "--trust-remote-code" in ran(script, "--help")[1]


def test_a_data_sets_own_script_is_not_run(tmp_path, monkeypatch):
    from patchboard.errors import TaskError
    from patchboard.tasks.treebank import read_dataset

    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.py").write_text(MODULE)
    with pytest.raises(TaskError, match=r"Dataset scripts are no longer supported|cannot be loaded"):
        list(read_dataset(str(tmp_path / "data"), None, "train", "words", "tags"))
    assert not (tmp_path / "ran").exists()
