"""Function vectors against plain hooks and weights read by hand, on several families, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.contract.tiny import one_error, run, tiny_tree
from tests.models import random_model, save

HEADS = [[3, 2], [0, 1], [3, 0], [-2, -1]]
"""Of two in one block, and one counted from the end."""
FIT: dict[str, Any] = {"shots": 2, "prompts": 5, "only": "all"}


def function(heads: Any, source: Any = "same_task", **more: Any) -> dict[str, Any]:
    return {"function_vector": source, "heads": heads, **FIT, **more}


def saved(family: str, folder: Path) -> Path:
    model = random_model(family, attention_bias=True) if family == "llama" else random_model(family)
    with torch.no_grad():  # a bias of zero could be left in unseen
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.bias", "c_proj.bias", "dense.bias", "out_proj.bias")):
                parameter.normal_()
    return save(model, folder)


PARTS = {  # family -> blocks, output projection of a block
    "llama": ("model.layers", "self_attn.o_proj"),
    "gpt2": ("transformer.h", "attn.c_proj"),
    "gpt_neox": ("gpt_neox.layers", "attention.dense"),
    "qwen3": ("model.layers", "self_attn.o_proj"),
    "opt": ("model.decoder.layers", "self_attn.out_proj"),
    "falcon": ("transformer.h", "self_attention.dense"),
}

FAMILIES = [
    "llama",
    "gpt2",
    *(pytest.param(each, marks=pytest.mark.slow) for each in ("gpt_neox", "qwen3", "opt", "falcon")),
]


@torch.no_grad()
def by_hand(model: Any, family: str, token_ids: list[list[int]], heads: list[list[int]]) -> Tensor:
    """Sum over heads of W_O's columns times the mean of what stands in their places at the last token; float64."""
    blocks, path = PARTS[family]
    total = torch.zeros(model.config.hidden_size, dtype=torch.float64)
    for layer, head in heads:
        module = model.get_submodule(blocks)[layer].get_submodule(path)
        seen: list[Tensor] = []
        handle = module.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0][0, -1].double()))
        for ids in token_ids:
            model(torch.tensor([ids]))
        handle.remove()
        size = len(seen[0]) // model.config.num_attention_heads
        own = range(len(seen[0]))[head * size :][:size] if head >= 0 else range(len(seen[0]))[-size:]
        weight = module.weight.double().T if family == "gpt2" else module.weight.double()  # Conv1D stores [in, out]
        for column in own:
            total += weight[:, column] * sum(float(state[column]) for state in seen) / len(seen)
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_literal_sum(family, tmp_path):
    """Grouped queries (Llama), weights stored the other way round (GPT-2), heads of more than their share (Qwen 3)."""
    folder = saved(family, tmp_path / "model")
    tree = tiny_tree(
        folder, decodability=None, controls=["random", "other_task"],
        interventions={"f": {"op": "add", "vector": function(HEADS), "layers": [0, 2], "site": "resid_pre"}},
    )  # fmt: skip
    assert run(tree, tmp_path / "out") == 0
    vectors = load_file(tmp_path / "out" / "vectors.safetensors")
    prompts = pl.read_parquet(tmp_path / "out" / "prompts.parquet").filter(role="fit")
    model = random_model(family)
    model = type(model).from_pretrained(folder).eval()
    expected = {task: by_hand(model, family, prompts.filter(task=task)["token_ids"].to_list(), HEADS)
                for task in ("AND", "OR", "XOR")}  # fmt: skip
    for task, vector in expected.items():
        for layer in (0, 2):
            found = vectors[f"f/{task}/{layer}"].double()
            torch.testing.assert_close(found, vector, atol=1e-5, rtol=1e-5)
            random = vectors[f"f/{task}~random0/{layer}"].double()
            torch.testing.assert_close(random.norm(), vector.norm(), atol=1e-5, rtol=1e-5)
            assert abs(torch.cosine_similarity(random, vector, 0)) < 0.9
    assert (expected["AND"] - expected["OR"]).norm() > 1e-2 * expected["AND"].norm() > 0, "tasks must differ to tell"
    rows = pl.read_parquet(tmp_path / "out" / "outcomes.parquet").filter(metric="logprob", layer=0)
    own, other = (rows.filter(control=name) for name in ("", "other_task"))
    assert set(other.filter(task="AND")["vector_task"]) == {"OR"}
    assert (own["patched"] - own["clean"]).abs().to_numpy().max() > 1e-3
    assert (own["patched"] - other["patched"]).abs().to_numpy().max() > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_all_heads_of_a_block_are_the_mean_of_its_attention_without_the_bias(family, tmp_path):
    """And a sum over heads is the sum of what each of them gives; differently used, still the same vector."""
    folder = saved(family, tmp_path / "model")
    layer, every = 1, [[1, head] for head in range(4)]
    tree = tiny_tree(
        folder, decodability=None, controls=[],
        interventions={
            "all": {"op": "patch", "vector": function(every), "layers": layer, "site": "attn_out"},
            "some": {"op": "add", "vector": function([*every[:2], [2, 3]]), "layers": layer},
            "rest": {"op": "add", "vector": function(every[2:]), "layers": 3},
            "other": {"op": "add", "vector": function([[2, 3]]), "layers": 0},
            "mean": {"op": "patch", "vector": {"mean": "same_task", **FIT}, "layers": layer, "site": "attn_out"},
        },
    )  # fmt: skip
    assert run(tree, tmp_path / "out") == 0
    vectors = load_file(tmp_path / "out" / "vectors.safetensors")
    blocks, path = PARTS[family]
    bias = random_model(family)
    bias = type(bias).from_pretrained(folder).get_submodule(blocks)[layer].get_submodule(path).bias
    bias = torch.zeros(48) if bias is None else bias.detach()
    assert (bias.norm() > 1) == (family not in ("qwen3", "falcon"))
    for task in ("AND", "OR", "XOR"):
        whole = vectors[f"all/{task}/1"]
        torch.testing.assert_close(whole, vectors[f"mean/{task}/1"] - bias, atol=2e-5, rtol=1e-5)
        parts = vectors[f"some/{task}/1"] + vectors[f"rest/{task}/3"] - vectors[f"other/{task}/0"]
        torch.testing.assert_close(whole, parts, atol=2e-5, rtol=1e-5)


def test_a_sweep_over_heads_and_sources_keeps_vectors_apart(llama_folder, tmp_path):
    vector = function([[1, 0]], source={"sweep": ["same_task", "all_tasks"]}) | {
        "heads": {"sweep": [[[1, 0]], [[1, 0], [2, 3]]]}
    }
    tree = tiny_tree(llama_folder, interventions={"f": {"op": "add", "vector": vector, "layers": 2}}, controls=[])
    tree |= {"decodability": None}
    assert run(tree, tmp_path / "out") == 0
    rows = pl.read_parquet(tmp_path / "out" / "effects.parquet").filter(metric="logprob", task="AND")
    swept = rows.select("interventions.f.vector.function_vector", "interventions.f.vector.heads")
    assert swept.n_unique() == rows.height == 4 and rows["effect"].n_unique() == 4
    vectors = load_file(tmp_path / "out" / "vectors.safetensors")
    pooled = [vector for key, vector in vectors.items() if "all_tasks" in key and "[2, 3]" in key]
    own = [vector for key, vector in vectors.items() if "same_task" in key and "[2, 3]" in key]
    assert (len(pooled), len(own)) == (1, 3)
    torch.testing.assert_close(pooled[0], torch.stack(own).mean(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"vector": function([[4, 0]])}, "interventions.f.vector.heads[0]: there is no layer 4, the model has 4"),
        ({"vector": function([[0, 0], [1, 9]])}, "interventions.f.vector.heads[1]: there is no head 9, the model has"),
        ({"vector": function([[3, 0], [-1, -4]])}, "interventions.f.vector.heads[1]: is head 0 of layer 3, as entry 0"),
        ({"vector": function([[3, 0], [3, 0]])}, "interventions.f.vector.heads[1]: [3, 0] stands in the list twice"),
        ({"vector": function([[3]])}, "interventions.f.vector.heads[0]: found the list [3], expected [layer, head]"),
        ({"vector": function([3])}, "interventions.f.vector.heads[0]: found the whole number 3, expected"),
        ({"vector": function([])}, "interventions.f.vector.heads: found an empty list, expected [layer, head] pairs"),
        ({"vector": {"function_vector": "same_task"}}, "interventions.f.vector.heads: is missing, a function vector"),
        ({"vector": {"mean": "OR", "heads": [[0, 0]]}}, "interventions.f.vector.heads: found the list [[0, 0]] beside"),
        ({"vector": function([[0, 0]], "XORR")}, "interventions.f.vector.function_vector: unknown task 'XORR'; did"),
        ({"vector": function([[0, 0]]), "site": "head"}, "interventions.f.site: a function vector is as wide as the"),
        ({"vector": function([[0, 0]]), "site": "mlp_out"}, "write one of these instead of mlp_out"),
        ({"vector": function([[0, 0]]), "op": "ablate"}, "interventions.f.vector: is a function_vector, op ablate"),
        ({"vector": {"mean": "OR", "function_vector": "OR"}}, "has mean and function_vector, expected exactly one of"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(llama_folder, tmp_path, capsys, edit, says):
    assert run(tiny_tree(llama_folder, interventions={"f": {"op": "add", **edit}}), tmp_path / "out") == 2
    assert says in one_error(capsys)
    assert not (tmp_path / "out").exists()


def test_where_it_stands_among_several_edits(llama_folder, tmp_path, capsys):
    edits = [{"op": "zero", "layers": 0}, {"op": "add", "layers": 1, "vector": function([[7, 0]])}]
    assert run(tiny_tree(llama_folder, interventions={"f": {"edits": edits}}), tmp_path / "out") == 2
    assert "interventions.f.edits[1].vector.heads[0]: there is no layer 7" in one_error(capsys)


def test_a_family_without_heads(tmp_path, capsys):
    folder = save(random_model("mamba2"), tmp_path / "mamba")
    tree = tiny_tree(folder, interventions={"f": {"op": "add", "vector": function([[0, 0]])}})
    assert run(tree, tmp_path / "out") == 2
    told = one_error(capsys)
    assert "interventions.f.vector.function_vector: there are no attention heads in family 'mamba2'" in told
    assert not (tmp_path / "out").exists()


def test_the_page_names_the_heads():
    from patchboard.report.described_edits import describe_interventions
    from patchboard.spec import study_of

    swept = {"sweep": [[[1, 0]], [[1, 0], [2, 3]]]}
    tree = study_of({"interventions": {
        "one": {"op": "add", "vector": function([[2, 1], [3, 0]], only="correct")},
        "more": {"op": "add", "vector": function(swept, source="OR")},
    }}).tree  # fmt: skip
    one, more = describe_interventions(tree).values()
    assert "adds the function vector of heads 2.1 and 3.0, their mean outputs for the prompt's own task (up to" in one
    assert "the function vector of head 1.0 or heads 1.0 and 2.3 (swept), their mean outputs for OR (up to 5" in more
