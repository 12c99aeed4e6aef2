"""`model.adapter`: merged into the weights it computes what peft computes beside them; the rest is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from patchboard.engine.load import load_weights, open_model
from patchboard.engine.model_contents import contents_of
from patchboard.errors import ModelError, SpecError
from patchboard.spec import study_of
from patchboard.spec.sections import ModelSection
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree

TOKENS = torch.tensor([[1, 5, 9, 2, 7, 30]])
LORA = {"task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6, "init_lora_weights": False}
ATTENTION = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def trained(llama_folder, gpt2_folder, tmp_path_factory) -> Callable[..., Path]:
    """config, base -> the folder of an adapter with random weights."""

    def give(config: Any, base: str = "llama") -> Path:
        torch.manual_seed(1)
        folder = tmp_path_factory.mktemp("adapter")
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained({"llama": llama_folder}.get(base, gpt2_folder)), config
        )
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("modules_to_save", "magnitude", "ia3")):
                parameter.data += torch.randn_like(parameter) / 4
        model.save_pretrained(folder)
        return folder

    return give


KINDS: dict[str, tuple[str, Callable[[], Any]]] = {
    "LoRA": ("llama", lambda: LoraConfig(**LORA, target_modules=ATTENTION)),
    "LoRA of some layers, scaled by rank": (
        "llama", lambda: LoraConfig(**LORA, target_modules="all-linear", use_rslora=True, rank_pattern={"up_proj": 2})),
    "LoRA of GPT-2": ("gpt2", lambda: LoraConfig(**LORA, target_modules=["c_attn"], fan_in_fan_out=True)),
    "DoRA": ("llama", lambda: LoraConfig(**LORA, target_modules=ATTENTION, use_dora=True)),
    "a head of its own": ("llama", lambda: LoraConfig(**LORA, target_modules=ATTENTION, modules_to_save=["lm_head"])),
    "IA3": ("llama", lambda: IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"],
                                       feedforward_modules=["down_proj"])),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_merged_it_computes_what_it_does_beside_the_weights(kind, trained, llama_folder, gpt2_folder):
    family, config = KINDS[kind]
    base = llama_folder if family == "llama" else gpt2_folder
    folder = trained(config(), family)
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        before = plain(TOKENS).logits
        beside = PeftModel.from_pretrained(plain, folder).eval()(TOKENS).logits
        merged = load_weights(ModelSection(name=str(base), adapter=str(folder)), "cpu", "float32")
        after = merged(TOKENS).logits
    assert type(merged).__name__ in ("LlamaForCausalLM", "GPT2LMHeadModel")
    assert not any("lora" in name or "base_layer" in name for name, _ in merged.named_modules())
    assert (beside - before).abs().max() > 0.1
    assert (after - beside).abs().max() < 2e-5 * beside.abs().max()


def refused(base: Path | str, adapter: Path | str, weights: bool = True) -> str:
    section = ModelSection(name=str(base), adapter=str(adapter))
    with pytest.raises(ModelError) as error:
        load_weights(section, "cpu", "float32") if weights else open_model(section)
    return error.value.one_line()


def configured(folder: Path, to: Path, **changes: Any) -> Path:
    shutil.copytree(folder, to)
    config = json.loads((to / "adapter_config.json").read_text()) | changes
    (to / "adapter_config.json").write_text(json.dumps(config))
    return to


@pytest.fixture(scope="module")
def lora(trained) -> Path:
    return trained(LoraConfig(**LORA, target_modules=ATTENTION))


NO_WEIGHTS = {
    "prefix": ({"peft_type": "PREFIX_TUNING"}, "is a prefix tuning adapter: it puts keys and values of virtual tokens"),
    "prompt": ({"peft_type": "PROMPT_TUNING"}, "is a prompt tuning adapter: it puts virtual tokens before the prompt"),
    "activated": ({"alora_invocation_tokens": [1, 2]}, "acts only behind its own invocation tokens"),
    "layers repeated": ({"layer_replication": [[0, 4], [2, 4]]}, "repeats layers (layer_replication)"),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_what_is_no_change_of_weights_is_refused_without_them(kind, lora, llama_folder, tmp_path):
    changes, says = NO_WEIGHTS[kind]
    line = refused(llama_folder, configured(lora, tmp_path / "a", **changes), weights=False)
    assert line.startswith("model.adapter: ") and says in line


def test_a_tensor_that_nothing_reads_or_that_is_not_there(lora, llama_folder, tmp_path):
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    more, less = configured(lora, tmp_path / "more"), configured(lora, tmp_path / "less")
    tensors = load_file(lora / "adapter_model.safetensors")
    save_file(
        tensors | {name.replace("layers.0", "layers.9"): tensors[name].clone()}, more / "adapter_model.safetensors"
    )
    assert "no part of the model reads its tensor base_model.model.model.layers.9." in refused(llama_folder, more)
    tensors.pop(name)
    save_file(tensors, less / "adapter_model.safetensors")
    assert f"its file lacks {name} (1 in all)" in refused(llama_folder, less)


def test_another_models_adapter(lora, gpt2_folder):
    assert "does not fit" in refused(gpt2_folder, lora)


def test_on_tied_weights_merging_would_be_another_model(trained, llama_folder, tmp_path):
    """peft adds to the head alone beside the weights, to head and embedding when merged."""
    tied = Path(shutil.copytree(llama_folder, tmp_path / "tied"))
    weights = load_file(tied / "model.safetensors")
    weights.pop("lm_head.weight")
    save_file(weights, tied / "model.safetensors", {"format": "pt"})
    config = json.loads((tied / "config.json").read_text()) | {"tie_word_embeddings": True}
    (tied / "config.json").write_text(json.dumps(config))
    folder = trained(LoraConfig(**LORA, target_modules=["lm_head"]))
    assert "merged into the weights" in refused(tied, folder) and "computes something else" in refused(tied, folder)


def test_places_that_hold_no_adapter(lora, llama_folder, tmp_path):
    assert "is a model, no adapter" in refused(llama_folder, llama_folder, weights=False)
    assert "there is no folder './none'" in refused(llama_folder, "./none", weights=False)
    assert f"give {lora}" in refused(llama_folder, lora / "adapter_model.safetensors", weights=False)
    assert "has no adapter_config.json" in refused(llama_folder, tmp_path, weights=False)


def test_another_base_is_told(lora, llama_folder, tmp_path):
    same = open_model(ModelSection(name=str(llama_folder), adapter=str(lora)))[1]
    assert same.notes == ()
    other = configured(lora, tmp_path / "a", base_model_name_or_path="org/Other-7B")
    (note,) = open_model(ModelSection(name=str(llama_folder), adapter=str(other)))[1].notes
    assert "was trained on 'org/Other-7B'" in note


@pytest.mark.slow
def test_a_run_is_bound_to_the_adapter(lora, llama_folder, tmp_path, capsys):
    folder = configured(lora, tmp_path / "a", base_model_name_or_path="org/Other-7B")
    tree = tiny_tree(llama_folder, interventions={"z": {"op": "zero", "layers": 1}}, decodability=None)
    tree["model"]["adapter"] = str(folder)
    out = tmp_path / "out"
    assert run(tree, out) == 0
    manifest = manifest_of(out)
    assert manifest["models"][0]["adapter"] == str(folder)
    section = ModelSection(name=str(llama_folder), adapter=str(folder))
    noted = manifest["identity"]["models"][section.label]
    assert noted == contents_of(section) and f"{folder}/adapter_model.safetensors" in noted
    assert any("was trained on 'org/Other-7B'" in note for note in manifest["fallbacks"])
    (out / "manifest.json").write_text(json.dumps(manifest | {"status": "running"}))
    (folder / "adapter_config.json").write_text((folder / "adapter_config.json").read_text() + "\n")
    capsys.readouterr()
    assert run(tree, out) == 2
    assert "was run on other contents of" in one_error(capsys)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"adapter": "a", "quantization": "4bit"}, "beside an adapter"),
        ({"name": "m.gguf", "quantization": "8bit"}, "a GGUF file has its own"),
    ],
)
def test_what_the_spec_cannot_mean(fields, where):
    with pytest.raises(SpecError, match=where) as error:
        study_of({"model": fields})
    assert error.value.where == "model.quantization"
