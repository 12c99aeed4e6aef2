"""Runs with features of a dictionary: their tables, controls, resuming, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

import patchboard as pb
from patchboard.commands.main import main
from patchboard.engine.local import LocalEngine
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write
from tests.dictionaries import literal_sae, tensors, write_dictionary
from tests.hub_server import stand_in

FIT = {"shots": 2, "prompts": 4, "only": "all"}
CHOSEN = {"select": ["same_task", "all_tasks"], "top": 3, **FIT}
NAMED = {"features": [5, 2], **FIT}
SIZE = 40
WEIGHTS = "sae_weights.safetensors"
JUMP = {"architecture": "jumprelu"}
TOPK = {"architecture": "topk", "k": 9, "normalize_activations": "layer_norm"}


def weights_of(model: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    width = AutoConfig.from_pretrained(model).hidden_size
    return tensors(width, SIZE, threshold=config.get("architecture") == "jumprelu")


def dictionary(model: Path, folder: Path, config: dict[str, Any], layer: int = 1) -> str:
    hook = {"hook_name": f"blocks.{layer}.hook_resid_post", "model_name": model.name}
    return write_dictionary(folder, weights_of(model, config), **config, **hook)


def tree_of(model: Path, path: str, **changes: Any) -> dict[str, Any]:
    sections = {
        "ablated": {"op": "ablate", "vector": {"sae": path, **CHOSEN}, "layers": [1]},
        "clamped": {"op": "clamp_features", "vector": {"sae": path, **NAMED, "value": 4}, "layers": [1]},
        "nothing": {"op": "clamp_features", "vector": {"sae": path, **NAMED}, "layers": [1], "strength": 0},
    }
    if "layer_norm" not in str(changes.pop("config", "")):
        sections["added"] = {"op": "add", "vector": {"sae": path, **NAMED}, "layers": [1], "strength": 2}
    rest = {"controls": ["self", "random", "other_task", "shuffled"], "decodability": None}
    return tiny_tree(model, interventions=sections, **rest, **changes)


@pytest.fixture(scope="module", params=[JUMP, TOPK], ids=["jumprelu", "topk behind a norm"])
def finished(request, llama_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    path = dictionary(llama_folder, folder / "d", request.param)
    tree = tree_of(llama_folder, path, config=request.param)
    assert run(tree, folder / "run") == 0
    return folder / "run", tree, path, request.param


def fit_states(run_folder: Path, model: Path, layer: int = 1) -> dict[str, torch.Tensor]:
    """Task -> states [prompt, d_model] of the fit prompts' last tokens, as transformers gives them."""
    loaded, found = AutoModelForCausalLM.from_pretrained(model), {}
    prompts = pl.read_parquet(run_folder / "prompts.parquet").filter(pl.col("role") == "fit", pl.col("set") == "fit0")
    for (task,), rows in prompts.group_by("task", maintain_order=True):
        with torch.no_grad():
            states = [
                loaded(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer + 1][0, -1]
                for ids in rows["token_ids"].to_list()
            ]
        found[task] = torch.stack(states)
    return found


def test_the_choice_is_of_the_fit_prompts(finished, llama_folder):
    """Against activations by SAELens' formulas on the states that transformers gives for the prompts of the table."""
    folder, _, path, config = finished
    weights, states = load_file(path), fit_states(folder, llama_folder)
    activations = {
        task: torch.stack([literal_sae(weights, row, **config)[0] for row in rows]) for task, rows in states.items()
    }
    real = [task for task in ("AND", "OR", "XOR")]
    over_all = torch.stack([activations[task].mean(0) for task in real]).mean(0)
    every = torch.cat([activations[task] for task in real])
    table = pl.read_parquet(folder / "features.parquet").filter(pl.col("intervention") == "ablated")
    for task in real:
        rows = table.filter(pl.col("vector_task") == task)
        gap = (activations[task].mean(0) - over_all).abs()
        assert rows["feature"].to_list() == gap.argsort(descending=True)[:3].tolist()
        at = rows["feature"].to_list()
        for column, expected in (
            ("mean_first", activations[task].mean(0)), ("mean_second", over_all),
            ("rate", (every > 0).float().mean(0)), ("largest", every.amax(0)),
        ):  # fmt: skip
            torch.testing.assert_close(torch.tensor(rows[column].to_list()), expected[at], rtol=1e-3, atol=1e-5)
    assert {"AND~random0", "AND~shuffled"} <= {*table["vector_task"]}


def test_random_features_are_others(finished):
    table = pl.read_parquet(finished[0] / "features.parquet")
    for (intervention, layer), rows in table.group_by("intervention", "layer"):
        for task in rows["vector_task"].unique().to_list():
            if "~" not in task:
                drawn = rows.filter(pl.col("vector_task") == f"{task}~random0")["feature"].to_list()
                own = rows.filter(pl.col("vector_task") == task)["feature"].to_list()
                assert len({*drawn, *own}) == 2 * len(own), (intervention, layer, task)


def test_effects_controls_and_files(finished):
    folder, _, path, config = finished
    effects = pl.read_parquet(folder / "effects.parquet").filter(pl.col("metric") == "logprob")
    kinds = {name: {*rows["control"]} for (name,), rows in effects.group_by("intervention")}
    assert kinds["ablated"] == {"", "self", "random", "other_task", "shuffled"}
    assert kinds["clamped"] == {"", "self", "random"} and ("added" in kinds) == ("normalize_activations" not in config)
    size = effects.filter(pl.col("control").is_in(["", "random"]), pl.col("intervention") != "nothing")["effect"].abs()
    assert size.max() > 0.01
    # what is packed differs by rounding from the clean run; without an edit it is the same number
    none = effects.filter((pl.col("control") == "self") | (pl.col("intervention") == "nothing"))["effect"].abs()
    assert none.max() < 2e-6
    manifest = manifest_of(folder)
    assert [*manifest["vector_files"]] == [path]
    assert {*manifest["identity"]["data"]} == {path, str(Path(path).parent / "cfg.json")}
    assert pb.open(folder).features.equals(pl.read_parquet(folder / "features.parquet"))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "the 3 features of the dictionary" in page and "Features of dictionaries" in page


def test_an_effect_by_hand(finished, llama_folder):
    """Log-probability with SAELens' own formula as a plain hook, at the last token of the layer's output."""
    folder, _, path, config = finished
    weights, model = load_file(path), AutoModelForCausalLM.from_pretrained(llama_folder)
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    found = pl.read_parquet(folder / "outcomes.parquet").filter(
        pl.col("intervention") == "clamped", pl.col("control") == "", pl.col("metric") == "logprob"
    )
    prompts = pl.read_parquet(folder / "prompts.parquet").filter(pl.col("role") == "evaluate")
    largest = pl.read_parquet(folder / "features.parquet").filter(
        pl.col("intervention") == "clamped", pl.col("vector_task") == "sae"
    )
    values = 4 * torch.tensor(largest["largest"].to_list())
    assert largest["feature"].to_list() == [5, 2] and tokenizer is not None
    for row in prompts.filter(pl.col("task") == "XOR").to_dicts():
        ids, answer = row["token_ids"], row["answer_ids"]

        last = len(ids) - 1

        def hook(_, __, output, last=last):
            h = (output[0] if isinstance(output, tuple) else output).clone()
            f, decode = literal_sae(weights, h[0, last], **config)
            changed = f.clone()
            changed[[5, 2]] = values
            h[0, last] += decode(changed) - decode(f)
            return (h, *output[1:]) if isinstance(output, tuple) else h

        handle = model.model.layers[1].register_forward_hook(hook)
        with torch.no_grad():
            logits = model(torch.tensor([[*ids, *answer[:-1]]])).logits[0].log_softmax(-1)
        handle.remove()
        expected = sum(float(logits[last + i, token]) for i, token in enumerate(answer))
        told = found.filter(pl.col("task") == "XOR", pl.col("query") == row["query"])["patched"].item()
        assert abs(told - expected) < 1e-4


@pytest.mark.parametrize("owner, name", [(LocalEngine, "score_pack"), (LocalEngine, "fit")])
def test_a_resumed_run_is_an_undisturbed_one(finished, tmp_path, monkeypatch, owner, name):
    folder, tree, _, _ = finished
    original, calls = getattr(owner, name), []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == (3 if name == "score_pack" else 1):
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, stopping)
        assert run(tree, tmp_path / "run") == 130
    assert run(tree, tmp_path / "run") == 0
    for table in ("outcomes.parquet", "effects.parquet", "features.parquet"):
        assert pl.read_parquet(tmp_path / "run" / table).equals(pl.read_parquet(folder / table)), table
    (tmp_path / "run" / "features.parquet").unlink()
    assert run(tree, tmp_path / "run") == 0  # a finished run makes it again
    assert pl.read_parquet(tmp_path / "run" / "features.parquet").equals(pl.read_parquet(folder / "features.parquet"))


def test_rows_are_packs(finished, tmp_path):
    folder, tree, _, _ = finished
    assert run(tree, tmp_path / "run", "--engine", "rows") == 0
    one, other = (
        pl.read_parquet(each / "outcomes.parquet").filter(pl.col("metric") == "logprob")["patched"].to_numpy()
        for each in (folder, tmp_path / "run")
    )
    assert abs(one - other).max() < 1e-5


def test_another_file_is_another_run(capsys, finished, llama_folder, tmp_path):
    _, _, _, config = finished
    path = dictionary(llama_folder, tmp_path / "d", config)
    tree = tree_of(llama_folder, path, config=config)
    assert run(tree, tmp_path / "run") == 0
    cfg = Path(path).parent / "cfg.json"
    cfg.write_text(cfg.read_text() + " ")
    assert run(tree, tmp_path / "run") == 2
    assert f"was run on other contents of {cfg}" in one_error(capsys)


def test_a_dictionary_a_layer(llama_folder, tmp_path):
    for layer in (1, 2):
        dictionary(llama_folder, tmp_path / f"layer_{layer}", JUMP, layer)
    form = str(tmp_path / "layer_{layer}" / "sae_weights.safetensors")
    section = {"op": "ablate", "vector": {"sae": form, **NAMED}, "layers": "1:3"}
    tree = tiny_tree(llama_folder, interventions={"a": section}, controls=["random"], decodability=None)
    assert run(tree, tmp_path / "run") == 0
    table = pl.read_parquet(tmp_path / "run" / "features.parquet")
    assert table.filter(pl.col("vector_task") == "sae")["layer"].to_list() == [1, 1, 2, 2]
    assert {*table["dictionary"]} == {form.replace("{layer}", str(layer)) for layer in (1, 2)}


def test_a_dictionary_of_the_hub(served, llama_folder, tmp_path):
    """Weights and config of the repository's commit; both are what the run is bound to."""
    repository = tmp_path / "repository"
    for layer in (1, 2):
        dictionary(llama_folder, repository / f"blocks.{layer}", JUMP, layer)
    with stand_in("someone/dictionaries", repository) as server:
        served(server)
        form = "hf://someone/dictionaries/blocks.{layer}/sae_weights.safetensors"
        section = {"op": "ablate", "vector": {"sae": form, **NAMED}, "layers": [1, 2]}
        tree = tiny_tree(llama_folder, interventions={"a": section}, controls=[], decodability=None)
        assert run(tree, tmp_path / "run") == 0
    manifest = manifest_of(tmp_path / "run")
    names = {f"hf://someone/dictionaries/blocks.{n}/{file}" for n in (1, 2) for file in ("cfg.json", WEIGHTS)}
    assert {*manifest["identity"]["data"]} == names
    assert {told["commit"] for told in manifest["vector_files"].values()} == {server.commit}


def test_what_a_run_gives_is_an_edit_elsewhere(finished, llama_folder):
    """Features of the run's own file edit a model in memory; of a top-k dictionary they need its encoder."""
    folder, _, _, config = finished
    features = pb.open(folder).vectors["clamped", 1, "sae"]
    assert features.numbers.tolist() == [5, 2] and features.stamp["fitted"]["kind"] == "sae"
    model, ids = AutoModelForCausalLM.from_pretrained(llama_folder), torch.tensor([[5, 6, 7]])
    if config is TOPK:
        with pytest.raises(pb.PatchboardError, match="keeps no whole encoder"), pb.intervene(model, features, "ablate"):
            pass
        return
    clean = model(ids).logits
    with pb.intervene(model, features, op="clamp_features", layer=1):
        assert not torch.equal(model(ids).logits, clean)
    with pytest.raises(pb.PatchboardError, match="is of features, op patch needs a vector"):
        with pb.intervene(model, features, op="patch", layer=1):
            pass


def test_export_leaves_them_out(capsys, finished, tmp_path):
    folder, _, _, config = finished
    status = main(["vectors", "export", str(folder), "--to", str(tmp_path / "out")])
    if config is TOPK:
        assert status == 2 and "features of dictionaries are none" in one_error(capsys)
    else:
        assert status == 0 and [*load_file(tmp_path / "out" / "vectors.safetensors")] == ["added/sae/1"]
        card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
        assert "features 5, 2" in card and "mean_first" not in card


REFUSED = {
    "a vector's op": ({"op": "patch"}, "is a sae, op patch needs a vector"),
    "no such feature": ({"vector": {"features": [0, 40], **FIT}}, "features[1]: there is no feature 40, '"),
    "too many": ({"vector": {"select": ["same_task", "all_tasks"], "top": 41, **FIT}}, "vector.top: 41 features of"),
    "too few for random": ({"vector": {"select": ["same_task", "all_tasks"], "top": 21, **FIT}}, "random needs 21 oth"),
    "value beside ablate": ({"vector": {**NAMED, "value": 2}}, "vector.value: op ablate sets nothing to a value"),
    "another layer": ({"layers": [2]}, "layer 1 there, 2 here; edit there, or write fitted_at: {layer: 1}"),
    "a head": ({"site": "head"}, "site: features are of whole states"),
    "several tokens": ({"position": "all"}, "position all names several tokens in fit prompts of AND, and feat"),
    "no such task": ({"vector": {"select": ["same_task", "NAND"], "top": 1}}, "vector.select[1]: unknown task 'NAND'"),
    "a source too": ({"source": "other_task"}, "a.source: op ablate takes none"),
    "clamp without one": ({"op": "clamp_features", "vector": None}, "add {sae: PATH, features: [0]}"),
    "clamp of a mean": ({"op": "clamp_features", "vector": {"mean": "same_task"}}, "is a mean, op clamp_features n"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_one_line(capsys, llama_folder, tmp_path, case):
    changes, says = REFUSED[case]
    path = dictionary(llama_folder, tmp_path / "d", JUMP)
    given = changes.get("vector", NAMED)
    vector = given if given is None or "mean" in given else {"sae": path, **given}
    section = {"op": "ablate", "layers": [1], **changes, "vector": vector}
    tree = tiny_tree(llama_folder, interventions={"a": section}, controls=["random"], decodability=None)
    assert run(tree, tmp_path / "run") == 2
    assert says in one_error(capsys) and not (tmp_path / "run" / "outcomes.parquet").exists()


def test_added_features_are_a_vector_only_where_none_are_scaled(capsys, llama_folder, tmp_path):
    path = dictionary(llama_folder, tmp_path / "d", TOPK)
    section = {"op": "add", "vector": {"sae": path, **NAMED}, "layers": [1]}
    tree = tiny_tree(llama_folder, interventions={"a": section}, controls=[], decodability=None)
    assert run(tree, tmp_path / "run") == 2
    assert "(layer_norm), so they are no vector; write op: clamp_features" in one_error(capsys)


def test_at_all_tokens_they_are_read_at_the_last(llama_folder, tmp_path):
    path = dictionary(llama_folder, tmp_path / "d", JUMP)
    vector = {"sae": path, **NAMED, "fitted_at": {"position": "last"}}
    section = {"op": "ablate", "vector": vector, "layers": [1], "position": "all"}
    tree = tiny_tree(llama_folder, interventions={"a": section}, controls=["self"], decodability=None)
    assert run(tree, tmp_path / "run") == 0


NOT_ON_A_HOST = {
    "chosen": ({"vector": CHOSEN}, [], "a.vector.select: chooses among all features of a dictionary, and a host has"),
    "random": ({"vector": NAMED}, ["self", "random"], "controls[1]: chooses among all features of a dictionary"),
    "chosen, of a plan": ({"vector": CHOSEN}, [], "a.vector.select: chooses among all features of a dictionary, and a"),
    "random, of a plan": ({"vector": NAMED}, ["random"], ": chooses among all features of a dictionary, and a"),
    "brought home": ({"vector": NAMED}, [], "--vectors: features of a dictionary stay on the host"),
}


@pytest.mark.parametrize("case", NOT_ON_A_HOST)
def test_what_a_host_has_not_is_refused_before_it_is_asked(capsys, llama_folder, tmp_path, case):
    changes, controls, says = NOT_ON_A_HOST[case]
    vector = {"sae": dictionary(llama_folder, tmp_path / "d", JUMP), **changes["vector"]}
    section = {"op": "ablate", "vector": vector, "layers": [1]}
    tree = tiny_tree(llama_folder, interventions={"a": section}, controls=controls, decodability=None)
    spec, out = write(tree, tmp_path / "spec.yaml"), str(tmp_path / "run")
    flags = ["--vectors"] if case == "brought home" else ["--plan"] if case.endswith("plan") else []
    assert main(["run", spec, "--out", out, "--quiet", "--remote", "http://127.0.0.1:9", *flags]) == 2
    assert says in one_error(capsys)


def test_it_is_validated_without_torch_s_weights(capsys, llama_folder, tmp_path):
    path = dictionary(llama_folder, tmp_path / "d", JUMP)
    spec = write(tree_of(llama_folder, path), tmp_path / "spec.yaml")
    assert main(["validate", spec]) == 0 and "valid" in capsys.readouterr().out
    elsewhere = write(
        tree_of(llama_folder, dictionary(llama_folder, tmp_path / "e", JUMP, layer=0)), tmp_path / "e.yaml"
    )
    assert main(["validate", elsewhere]) == 2 and "layer 0 there, 1 here" in capsys.readouterr().err
    (Path(path).parent / "cfg.json").write_text('{"architecture": "gated"}')
    assert main(["validate", spec]) == 2
    assert "architecture gated, expected one of standard, jumprelu, topk" in capsys.readouterr().err
