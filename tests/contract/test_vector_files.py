"""Vectors from files: a run's own vectors used by another run, files of other tools, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file

from patchboard.commands.main import main
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write

FIT = {"shots": 1, "prompts": 4}
FITTED = {
    "d": {"op": "add", "vector": {"difference": ["same_task", "all_tasks"], **FIT}, "layers": [1, 2]},
    "s": {"op": "ablate", "vector": {"subspace": "tasks", "rank": 2, **FIT}, "layers": [2]},
    "h": {"op": "patch", "vector": {"mean": "same_task", **FIT}, "site": "head", "heads": [1], "layers": [1]},
    "n": {"op": "patch", "vector": {"mean": "same_task", **FIT}, "site": "mlp_act", "neurons": [3, 7], "layers": [1]},
    "f": {"op": "add", "vector": {"function_vector": "same_task", "heads": [[1, 0]], **FIT}, "layers": [2]},
}
KEYS = {"d": "d/{task}/{layer}", "s": "s/tasks/{layer}", "h": "h/{task}/{layer}.{head}", "n": "n/{task}/{layer}",
        "f": "f/{task}/{layer}"}  # fmt: skip
NAMES = {"controls": ["self", "random", "other_task"], "decodability": None}


def from_file(file: Path | str, **more) -> dict:
    """The interventions of FITTED with their vectors from the file."""
    return {
        name: {**section, "vector": {"file": str(file), "key": KEYS[name], **more}} for name, section in FITTED.items()
    }


def one(file: Path | str, **changes) -> dict:
    """One intervention at layer 1 that adds a vector of the file."""
    vector = {"file": str(file), **changes.pop("vector", {})}
    return {"interventions": {"d": {"op": "add", "vector": vector, "layers": [1], **changes}}, **NAMES}


@pytest.fixture(scope="module")
def fitted(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    assert run(tiny_tree(llama_folder, interventions=FITTED, **NAMES), out) == 0
    return out


@pytest.fixture(scope="module")
def vectors(fitted) -> Path:
    return fitted / "vectors.safetensors"


def outcomes(folder: Path, *controls: str) -> pl.DataFrame:
    """Without the name of the vector, which is the key's task for a fitted one of all tasks."""
    table = pl.read_parquet(folder / "outcomes.parquet").drop("vector_task")
    return table.filter(pl.col("control").is_in(list(controls)))


def refused(capsys, tree: dict, tmp_path: Path) -> str:
    assert run(tree, tmp_path / "run") == 2
    assert not (tmp_path / "run" / "outcomes.parquet").exists()
    return one_error(capsys)


@pytest.mark.parametrize("process", ["this", pytest.param("another", marks=pytest.mark.slow)])
def test_the_same_cells(fitted, vectors, llama_folder, tmp_path, process):
    """To the bit: vectors, subspaces, parts of a head and of neurons, function vectors; and the control other_task."""
    tree = tiny_tree(llama_folder, interventions=from_file(vectors), **NAMES)
    if process == "this":
        assert run(tree, tmp_path / "run") == 0
    else:
        spec = write(tree, tmp_path / "spec.yaml")
        command = [sys.executable, "-m", "patchboard", "run", spec, "--out", str(tmp_path / "run"), "--quiet"]
        assert subprocess.run(command, capture_output=True, text=True, timeout=120).stderr == ""
    kinds = ("", "self", "other_task")
    assert outcomes(tmp_path / "run", *kinds).equals(outcomes(fitted, *kinds))
    manifest = manifest_of(tmp_path / "run")
    digest = manifest["identity"]["data"][str(vectors)]
    assert manifest["vector_files"] == {str(vectors): {"sha256": digest}}
    again, before = load_file(tmp_path / "run" / "vectors.safetensors"), load_file(vectors)
    assert all(again[name].equal(before[name]) for name in before if "~" not in name and not name.startswith("s/"))
    assert again["s/file/2/left"].equal(before["s/tasks/2/left"])
    assert "no fit" not in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_random_counterparts_have_the_norm(vectors, llama_folder, tmp_path):
    tree = one(vectors, vector={"key": "d/{task}/{layer}"}) | {"controls": [{"random": {"draws": 2}}]}
    assert run(tiny_tree(llama_folder, **tree), tmp_path / "run") == 0
    found = load_file(tmp_path / "run" / "vectors.safetensors")
    for task in ("AND", "OR", "XOR"):
        own, *drawn = (found[f"d/{task}{ending}/1"] for ending in ("", "~random0", "~random1"))
        assert own.equal(load_file(vectors)[f"d/{task}/1"])
        for each in drawn:
            torch.testing.assert_close(each.norm(), own.norm())
            assert abs(torch.cosine_similarity(each, own, dim=0)) < 0.8


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": [2], "vector": {"key": "d/{task}/1"}}, "was fitted elsewhere: layer 1 there, 2 here; edit there, or"
         " write fitted_at: {layer: 1}"),
        ({"site": "resid_pre", "vector": {"key": "d/{task}/{layer}"}}, "site resid_post there, resid_pre here"),
        ({"position": "all", "vector": {"key": "d/{task}/{layer}"}}, 'position "last" there, "all" here; edit there, or'
         ' write fitted_at: {position: "last"}'),
        ({"layers": [3], "vector": {"key": "d/{task}/{layer}"}}, "has no 'd/AND/3'; edit layers 1, 2 alone, or write"),
        ({"vector": {}}, "key: is missing, 'FILE' has 32 vectors; write key: d/{task}/{layer}"),
        ({"vector": {"key": "e/{task}/{layer}"}}, "has no 'e/AND/{layer}'; it has d/AND/1, d/AND/2, d/AND~"),
        ({"vector": {"key": "s/tasks/2", "fitted_at": 2}}, "is a subspace, op add needs a vector"),
        ({"vector": {"key": "h/{task}/{layer}.{head}"}}, "has {head} in it, and the edit is of no head"),
        ({"vector": {"key": "d/{tsak}/1"}}, "has {tsak} in it, a key may have {task}, {layer}, {head}"),
        ({"vector": {"key": "d/{task}/1", "shots": 2}}, "vector.shots: found the whole number 2 beside file"),
        ({"op": "scale", "vector": {"key": "d/{task}/1"}}, "op scale takes none"),
    ],
)  # fmt: skip
def test_what_differs_is_told_in_a_line(capsys, vectors, llama_folder, tmp_path, changes, told):
    line = refused(capsys, tiny_tree(llama_folder, **one(vectors, **changes)), tmp_path)
    assert told.replace("FILE", str(vectors)) in line and line.startswith("error: interventions.d.")


def test_another_place_where_the_spec_says_so(fitted, vectors, llama_folder, tmp_path):
    """A vector of layer 1 at layer 2, and one of the last token at all of them."""
    file = {"file": str(vectors), "key": "d/{task}/{layer}"}
    elsewhere = {
        "layer": {"op": "add", "vector": {**file, "fitted_at": 1},
                  "layers": [2]},
        "all": {"op": "add", "vector": {**file, "fitted_at": {"position": "last"}},
                "layers": [1], "position": "all"},
    }  # fmt: skip
    assert run(tiny_tree(llama_folder, interventions=elsewhere, **NAMES), tmp_path / "run") == 0
    found = load_file(tmp_path / "run" / "vectors.safetensors")
    for key in ("layer/AND/2", "all/AND/1"):
        assert found[key].equal(load_file(vectors)["d/AND/1"])


def test_another_model_is_refused(capsys, vectors, gpt2_folder, tmp_path):
    line = refused(capsys, tiny_tree(gpt2_folder, **one(vectors, vector={"key": "d/{task}/{layer}"})), tmp_path)
    assert "'d/AND/1' was fitted on another model: model " in line and f"{gpt2_folder} here; use it on" in line


def test_other_weights_under_the_same_name_are_refused(capsys, llama_folder, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(llama_folder, model)
    assert run(tiny_tree(model, interventions={"d": FITTED["d"]}, **NAMES), tmp_path / "fitted") == 0
    weights = load_file(model / "model.safetensors")
    weights["model.norm.weight"] *= 2
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    changes = one(tmp_path / "fitted" / "vectors.safetensors", vector={"key": "d/{task}/{layer}"})
    assert "was fitted on other contents of" in refused(capsys, tiny_tree(model, **changes), tmp_path)


def test_a_changed_file_is_another_run(capsys, llama_folder, tmp_path):
    file = tmp_path / "v.npz"
    np.savez(file, v=np.ones(48, np.float32))
    tree = tiny_tree(llama_folder, **one(file))
    assert run(tree, tmp_path / "run") == 0
    np.savez(file, v=np.full(48, 2, np.float32))
    assert run(tree, tmp_path / "run") == 2
    assert f"was run on other contents of {file} (was " in one_error(capsys)


class Plain:
    """Files of other tools: a tensor a layer of the model's width (48), written in each format."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.tensors = {layer: torch.randn(48, generator=torch.Generator().manual_seed(layer)) for layer in (1, 2)}

    def write(self, format: str) -> tuple[Path, str | None]:
        """(file, key)."""
        file = self.folder / f"v.{format}"
        named = {f"layer.{layer}": tensor for layer, tensor in self.tensors.items()}
        if format == "safetensors":
            save_file({name: tensor.half() for name, tensor in named.items()}, file)
        elif format == "npz":
            arrays: Any = {name: tensor.double().numpy() for name, tensor in named.items()}
            np.savez(file, **arrays)
        elif format == "pt":
            torch.save({"vectors": self.tensors, "about": "steering"}, file)
            return file, "vectors/{layer}"
        else:
            writer = GGUFWriter(file, "controlvector")
            writer.add_string("controlvector.model_hint", "llama")
            for layer, tensor in self.tensors.items():
                writer.add_tensor(f"direction.{layer}", tensor.numpy())
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            return file, None
        return file, "layer.{layer}"


@pytest.mark.parametrize("format", ["safetensors", "npz", "pt", "gguf"])
def test_plain_files(format, llama_folder, tmp_path):
    plain = Plain(tmp_path)
    file, key = plain.write(format)
    tree = one(file, vector={"key": key} if key else {}, layers=[1, 2])
    assert run(tiny_tree(llama_folder, **tree), tmp_path / "run") == 0
    found = load_file(tmp_path / "run" / "vectors.safetensors")
    for layer, tensor in plain.tensors.items():
        expected = tensor.half().float() if format == "safetensors" else tensor
        assert found[f"d/file/{layer}"].equal(expected)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert any("adds the vector" in line for line in page.splitlines() if file.name in line)


def _no_control_vector(file: Path) -> None:
    writer = GGUFWriter(file, "llama")
    writer.add_tensor("v", np.ones(48, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _Bad:
    def __reduce__(self):
        return print, ("ran",)


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("v.npz", lambda f: np.savez(f, v=np.ones(31, np.float32)), "'v' has shape [31], the model's states at"),
        ("v.npz", lambda f: np.savez(f, v=np.ones((2, 48), np.float32)), "has shape [2, 48]"),
        ("v.npz", lambda f: np.savez(f, v=np.ones(48, np.int64)), "'v' holds int64 numbers; save floats"),
        ("v.npz", lambda f: np.savez(f, v=np.full(48, np.nan)), "'v' holds NaN or infinite numbers"),
        ("v.npz", lambda f: np.savez(f, v=np.array([_Bad()], dtype=object)), "cannot be read as .npz (Object arrays"),
        ("v.npz", lambda f: f.write_text("no"), "cannot be read as .npz"),
        ("v.pt", lambda f: torch.save({"v": _Bad()}, f), "cannot be read as .pt (it holds more than tensors and plain"),
        ("v.safetensors", lambda f: f.write_bytes(b"x" * 40), "cannot be read as .safetensors"),
        ("v.gguf", _no_control_vector, "cannot be read as .gguf (its architecture is llama, expected control"),
        ("v.bin", lambda f: f.write_text("no"), "ends in '.bin', expected one of .safetensors, .npz, .pt, .gguf"),
        ("v.npz", lambda f: f.mkdir(), "is a folder; name a file in it"),
        ("w.npz", lambda f: f.with_name("v2.npz").touch(), "there is no file"),
        ("v.npz", lambda f: np.savez(f, a=np.ones(48), b=np.ones(48)), "has 2 vectors; write key: a, b"),
    ],
)
def test_files_that_do_not_do(capsys, llama_folder, tmp_path, name, make, told):
    make(tmp_path / name)
    line = refused(capsys, tiny_tree(llama_folder, **one(tmp_path / name)), tmp_path)
    assert told in line and "ran" not in capsys.readouterr().out


def test_validate_reads_the_file(capsys, vectors, llama_folder, tmp_path):
    good = write(tiny_tree(llama_folder, **one(vectors, vector={"key": "d/{task}/{layer}"})), tmp_path / "good.yaml")
    bad = write(tiny_tree(llama_folder, **one(vectors, vector={"key": "q/{layer}"})), tmp_path / "bad.yaml")
    assert main(["validate", good]) == 0
    capsys.readouterr()
    assert main(["validate", bad]) == 2
    assert "the file has no 'q/{layer}'" in capsys.readouterr().err


def test_the_stamp_tells_how_a_vector_was_fitted(fitted, vectors):
    from patchboard.store.vectors import read_stamp

    stamp = read_stamp(vectors)
    place = json.loads(stamp["places"])["d/XOR/1"]
    assert place["fitted"]["kind"] == "difference" and place["fitted"]["prompts"]["XOR"] == 4
    assert (place["fitted"]["shots"], place["fitted"]["only"]) == (1, "correct")
    assert json.loads(stamp["contents"]) == next(iter(manifest_of(fitted)["identity"]["models"].values()))
    assert json.loads(stamp["tasks"])[0]["family"] == "bitwise"


def test_emit_says_that_it_cannot(capsys, vectors, llama_folder, tmp_path):
    spec = write(tiny_tree(llama_folder, **one(vectors, vector={"key": "d/{task}/{layer}"})), tmp_path / "s.yaml")
    assert main(["emit", spec, "--out", str(tmp_path / "s.py")]) == 2
    assert "a script cannot make a vector of kind file" in one_error(capsys)
