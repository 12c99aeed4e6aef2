"""Models that cannot mean what the spec means: refused in one line before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from patchboard.engine.load import context_of
from patchboard.execution.planned import plan_study
from patchboard.spec import study_of
from tests.contract.tiny import VECTOR, one_error, run, tiny_tree


@pytest.fixture
def copied(llama_folder, tmp_path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "model"))


def configure(model: Path, **changes: Any) -> None:
    config = json.loads((model / "config.json").read_text()) | changes
    (model / "config.json").write_text(json.dumps(config))


def refusal(tree: dict, out: Path, capsys: Any, *arguments: str) -> str:
    assert run(tree, out, *arguments) == 2
    assert not out.exists(), "bad input leaves nothing behind"
    return one_error(capsys)


def test_half_a_checkpoint(copied, tmp_path, capsys):
    weights = copied / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    tree = tiny_tree(copied, interventions={"z": {"op": "zero", "layers": 1}}, decodability=None)
    line = refusal(tree, tmp_path / "out", capsys)
    assert "no weights could be loaded from" in line and "check that the folder's files are whole" in line


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"num_hidden_layers": 5}, "its checkpoint lacks the weight model.layers.4."),
        ({"num_hidden_layers": 3}, "its configuration has 3 layers and leaves out the checkpoint's model.layers.3."),
        ({"intermediate_size": 128}, "its weight model.layers.0.mlp.down_proj.weight is 48 x 96, its configuration"),
    ],
)
def test_a_configuration_of_another_checkpoint(copied, tmp_path, capsys, change, says):
    """transformers alone would go on with random weights in the gaps."""
    configure(copied, **change)
    line = refusal(tiny_tree(copied), tmp_path / "out", capsys)
    assert says in line and "config.json" in line


def test_the_tokenizer_of_another_model(copied, tmp_path, capsys):
    model = AutoModelForCausalLM.from_pretrained(copied)
    model.resize_token_embeddings(10)
    model.save_pretrained(copied)
    capsys.readouterr()
    line = refusal(tiny_tree(copied), tmp_path / "out", capsys, "--plan")
    assert "the model knows 10 tokens; use the tokenizer that belongs to the model" in line


LONG = {
    "prompts.shots": {"prompts": {"shots": 6, "queries": 3}},
    "interventions (vector.shots)": {
        "interventions": {"p": {"op": "patch", "vector": {**VECTOR, "shots": 6}, "layers": 1}}
    },
    "decodability.shots": {"decodability": {"k": 2, "prompts": 4, "shots": [0, 6]}},
}


@pytest.mark.parametrize("where", LONG)
def test_prompts_beyond_the_context(copied, tmp_path, capsys, where):
    """Refused one token beyond the limit, though rotary positions would compute something for any length."""
    tree = tiny_tree(copied) | LONG[where]
    (plan,) = plan_study(study_of(tree))
    prompts = [p for group in plan.groups for p in group.prompts]
    prompts += [p for part in (*plan.fits, *plan.decodings) for rows in part.prompts.values() for p in rows]
    longest = max(len(p.token_ids) + len(p.answer_ids) - 1 for p in prompts)
    configure(copied, max_position_embeddings=longest)
    assert run(tree, tmp_path / "out", "--plan") == 0, "a prompt of just the context's length fits"
    configure(copied, max_position_embeddings=longest - 1)
    capsys.readouterr()
    line = refusal(tree, tmp_path / "out", capsys, "--plan")
    assert line.startswith(f"error: {where}: a prompt of ") and "with 6 shots" in line
    assert f"has {longest} tokens" in line and f"trained on) is {longest - 1}; use fewer shots" in line


@pytest.mark.parametrize(
    ("config", "context"),
    [
        ({"max_position_embeddings": 2048, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 2048),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "linear", "factor": 4.0}}, 16384),
        (
            {
                "max_position_embeddings": 131072,
                "rope_parameters": {"factor": 8.0, "original_max_position_embeddings": 8192},
            },
            131072,
        ),
        ({"rope_parameters": None, "max_position_embeddings": 1024}, 1024),
        ({"max_position_embeddings": 512, "rope_parameters": {"full_attention": {"rope_type": "default"}}}, 512),
        ({}, 0),
    ],
)
def test_the_context_of_a_configuration(config, context):
    assert context_of(SimpleNamespace(**config)) == context


@pytest.mark.parametrize("what", ["fit", "decodability", "packs"])
def test_weights_that_are_no_numbers(copied, tmp_path, capsys, what):
    model = AutoModelForCausalLM.from_pretrained(copied)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.fill_(float("nan"))
    model.save_pretrained(copied)
    capsys.readouterr()
    zero = {"z": {"op": "zero", "layers": 3}}
    changes = {"fit": {}, "decodability": {"interventions": zero}}.get(
        what, {"interventions": zero, "decodability": None}
    )
    assert run(tiny_tree(copied, **changes), tmp_path / "out") == 2
    assert "are not finite numbers; set model.dtype: float32, or check the checkpoint's weights" in one_error(capsys)
