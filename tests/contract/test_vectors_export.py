"""`patchboard vectors export`: each format there and back, the card, what is refused; and the Hub, both ways."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from gguf import GGUFReader
from safetensors.torch import load_file, save_file

from patchboard import hub
from patchboard.commands.main import main
from patchboard.store.vectors import read_stamp
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write
from tests.hub_server import TOKEN, stand_in

FIT = {"shots": 1, "prompts": 4}
ADDED = {"op": "add", "vector": {"difference": ["same_task", "all_tasks"], **FIT}, "layers": [1, 2]}
ERASED = {"op": "ablate", "vector": {"subspace": "tasks", "rank": 2, **FIT}, "layers": [2]}
REST = {"controls": ["random"], "decodability": None}
REPO = "someone/vectors"


@pytest.fixture(scope="module")
def fitted(llama_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    assert run(tiny_tree(llama_folder, interventions={"d": ADDED, "s": ERASED}, **REST), out) == 0
    return out


def export(folder: Path, out: Path, *arguments: str) -> int:
    return main(["vectors", "export", str(folder), "--to", str(out), *arguments])


def outcomes(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "outcomes.parquet").filter(pl.col("control") == "").drop("vector_task")


def of_xor(folder: Path) -> pl.DataFrame:
    return outcomes(folder).filter(pl.col("task") == "XOR")


@pytest.mark.parametrize("format", ["safetensors", "npz", "pt"])
def test_there_and_back(fitted, llama_folder, tmp_path, format):
    """A run with the exported file has the cells of the run that fitted, to the bit."""
    assert export(fitted, tmp_path / "out", "--format", format) == 0
    file = str(tmp_path / "out" / f"vectors.{format}")
    sections = {
        "d": {**ADDED, "vector": {"file": file, "key": "d/{task}/{layer}"}},
        "s": {**ERASED, "vector": {"file": file, "key": "s/tasks/{layer}"}},
    }
    assert run(tiny_tree(llama_folder, interventions=sections, **REST), tmp_path / "run") == 0
    assert outcomes(tmp_path / "run").equals(outcomes(fitted))


def test_control_vectors_there_and_back(fitted, llama_folder, tmp_path):
    """One file a task; read as other tools read it, and by a spec that leaves the key out."""
    assert export(fitted, tmp_path / "out", "--format", "gguf", "--intervention", "d") == 0
    files = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert files == ["README.md", "d-AND.gguf", "d-OR.gguf", "d-XOR.gguf"]
    reader = GGUFReader(tmp_path / "out" / "d-XOR.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector" and fields["controlvector.model_hint"] == "llama"
    assert fields["controlvector.layer_count"] == 2
    own = load_file(fitted / "vectors.safetensors")
    found = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    assert sorted(found) == ["direction.1", "direction.2"]
    assert all((found[f"direction.{layer}"] == own[f"d/XOR/{layer}"].numpy()).all() for layer in (1, 2))
    sections = {"d": {**ADDED, "vector": {"file": str(tmp_path / "out" / "d-XOR.gguf")}}, "s": ERASED}
    assert run(tiny_tree(llama_folder, interventions=sections, **REST), tmp_path / "run") == 0
    assert of_xor(tmp_path / "run").equals(of_xor(fitted))


def test_the_choice_and_the_card(fitted, tmp_path):
    chosen = ["--intervention", "d", "--layer", "2", "--task", "XOR"]
    assert export(fitted, tmp_path / "out", *chosen) == 0
    file = tmp_path / "out" / "vectors.safetensors"
    assert list(load_file(file)) == ["d/XOR/2"]
    stamp, own = read_stamp(file), read_stamp(fitted / "vectors.safetensors")
    assert {k: v for k, v in stamp.items() if k != "places"} == {k: v for k, v in own.items() if k != "places"}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    row = pl.read_parquet(fitted / "effects.parquet").filter(
        pl.col("intervention") == "d", pl.col("task") == "XOR", pl.col("layer") == 2, pl.col("metric") == "accuracy"
    )
    own_row = row.filter(pl.col("control") == "").row(0, named=True)
    lines = [line for line in card.splitlines() if line.startswith("| d |")]
    assert len(lines) == 1 and lines[0].startswith("| d | XOR | 2 |") and lines[0].endswith(f"| {own_row['n']} |")
    assert "Licence**: to be filled in" in card and manifest_of(fitted)["digest"][:16] in card
    assert "kind difference, only correct, shots 1, up to 4 prompts a task; tasks XOR; layers 2" in card
    assert export(fitted, tmp_path / "out", *chosen) == 0, "a folder of ours is written over"


def test_a_control_by_its_name(fitted, tmp_path):
    assert export(fitted, tmp_path / "out", "--task", "XOR~random0", "--layer", "1") == 0
    assert list(load_file(tmp_path / "out" / "vectors.safetensors")) == ["d/XOR~random0/1"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "XR"], "--task: the run has no vectors of 'XR'; did you mean 'XOR'"),
        (["--intervention", "q"], "--intervention: the run has no vectors of 'q'; "),
        (["--layer", "3"], "--layer: no vector of the run is at these layers"),
        (["--layer", "9"], "--layer: "),
        (["--format", "gguf"], "--format: 's/tasks/2' is a subspace, and a control vector is added to"),
        (["--push", "nowhere"], "--push: found 'nowhere', expected OWNER/NAME"),
    ],
)
def test_choices_that_cannot_be(capsys, fitted, tmp_path, arguments, told):
    assert export(fitted, tmp_path / "out", *arguments) == 2
    assert told in one_error(capsys) and list(tmp_path.iterdir()) == []


def test_folders_that_are_not_ours(capsys, fitted, tmp_path):
    (tmp_path / "mine.txt").touch()
    assert export(fitted, tmp_path) == 2
    assert "is there already and was not exported" in one_error(capsys)
    assert export(tmp_path, tmp_path / "out") == 2
    assert "no finished run is here" in one_error(capsys)


@pytest.fixture
def repository(tmp_path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    return folder


def test_pushed_and_used_from_the_hub(served, repository, fitted, llama_folder, tmp_path, monkeypatch, capsys):
    """Vectors, card, spec and report go up; a spec that names them has the cells of the run that fitted them, and
    notes the commit and the file's digest."""
    with stand_in(REPO, repository) as server:
        served(server)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert export(fitted, tmp_path / "out", "--push", REPO) == 0
        assert f"pushed {server.url}/{REPO}/commit/{server.commit}" in capsys.readouterr().out
        assert server.created[0]["visibility"] == "private"
        assert sorted(f.name for f in repository.iterdir()) == [
            "README.md", "report.html", "spec.yaml", "vectors.safetensors",
        ]  # fmt: skip
        assert (repository / "spec.yaml").read_bytes() == (fitted / "spec.yaml").read_bytes()
        name = f"hf://{REPO}/vectors.safetensors"
        section = {**ADDED, "vector": {"file": name, "key": "d/{task}/{layer}"}}
        tree = tiny_tree(llama_folder, interventions={"d": section, "s": ERASED}, **REST)
        assert run(tree, tmp_path / "run") == 0
        assert outcomes(tmp_path / "run").equals(outcomes(fitted))
        told = manifest_of(tmp_path / "run")
        digest = told["identity"]["data"][name]
        assert told["vector_files"] == {name: {"sha256": digest, "commit": server.commit}}
        capsys.readouterr()
        # the branch moves on: the finished run is of another file
        moved = repository / "vectors.safetensors"
        stamp, tensors = read_stamp(moved), load_file(moved)
        save_file({key: 2 * tensor for key, tensor in tensors.items()}, moved, metadata=stamp)
        server.commit = "f" * 40
        assert run(tree, tmp_path / "run") == 2
        assert f"was run on other contents of {name}" in one_error(capsys)


def test_what_the_hub_refuses(served, repository, fitted, tmp_path, monkeypatch, capsys):
    with stand_in(REPO, repository) as server:
        served(server)
        monkeypatch.setenv("HF_TOKEN", "another")
        assert export(fitted, tmp_path / "out", "--push", REPO) == 3
        captured = capsys.readouterr()
        assert "answers 401 to the upload" in captured.err and "hf auth login" in captured.err
        assert (tmp_path / "out" / "vectors.safetensors").exists()


@pytest.mark.parametrize(
    ("file", "told"),
    [
        (f"hf://{REPO}", "expected hf://OWNER/REPO/PATH"),
        (f"hf://{REPO}/none.npz", f"{REPO} has no file 'none.npz' at main; check the path"),
        (f"hf://{REPO}/v.npz@v2", f"{REPO} has no revision 'v2'; name a branch, tag or commit"),
        ("hf://someone/else/v.npz", "there is no repository 'someone/else' on the Hub"),
    ],
)
def test_what_the_hub_has_not(served, repository, llama_folder, tmp_path, capsys, file, told):
    np.savez(repository / "v.npz", v=np.ones(48, np.float32))
    section = {"d": {"op": "add", "vector": {"file": file}, "layers": [1]}}
    spec = write(tiny_tree(llama_folder, interventions=section, **REST), tmp_path / "spec.yaml")
    with stand_in(REPO, repository) as server:
        served(server)
        assert main(["validate", spec]) == 2
        assert told in capsys.readouterr().err


def test_a_revision_and_a_silent_hub(served, repository, llama_folder, tmp_path, capsys, monkeypatch):
    """Fetched once by its commit, it is found in the cache when nobody answers."""
    np.savez(repository / "v.npz", v=np.ones(48, np.float32))
    with stand_in(REPO, repository) as server:
        served(server)
        section = {"d": {"op": "add", "vector": {"file": f"hf://{REPO}/v.npz@{server.commit}"}, "layers": [1]}}
        spec = write(tiny_tree(llama_folder, interventions=section, **REST), tmp_path / "spec.yaml")
        assert main(["validate", spec]) == 0
    monkeypatch.setattr(hub, "_SILENT", {})
    assert main(["validate", spec]) == 0
    capsys.readouterr()
    other = spec.replace("spec.yaml", "other.yaml")
    section["d"]["vector"]["file"] = f"hf://{REPO}/w.npz"
    write(tiny_tree(llama_folder, interventions=section, **REST), Path(other))
    assert main(["validate", other]) == 2
    assert "could not be fetched" in capsys.readouterr().err
