"""`patchboard validate` holds layers, heads and sites against a model whose configuration is at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from patchboard.commands.main import main
from patchboard.engine.load import open_model
from patchboard.engine.local_config import facts_at_home
from patchboard.errors import SpecError
from patchboard.execution.validate_model import check_on_model
from patchboard.spec import study_of
from patchboard.spec.sections import ModelSection
from tests.contract.tiny import one_error, write

VECTOR = {"mean": "same_task"}
HEADS = {"op": "add", "layers": 1, "vector": {"function_vector": "same_task", "heads": [[0, 0], [9, 0]]}}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a layer": ({"op": "zero", "layers": 4}, "interventions.x.layers: "),
    "one of a list": ({"op": "zero", "layers": [0, 7]}, "interventions.x.layers[1]: "),
    "together": ({"op": "zero", "layers": {"together": [0, 7]}}, "interventions.x.layers.together[1]: "),
    "of several edits": ({"edits": [{"op": "zero", "layers": 0}, {"op": "zero", "layers": 5}]},
                         "interventions.x.edits[1].layers: "),
    "swept": ({"op": "zero", "layers": {"sweep": [0, 11]}}, "interventions.x.layers: "),
    "a head": ({"op": "zero", "site": "head", "heads": 6, "layers": 0}, "interventions.x.heads: "),
    "a head of a function vector": (HEADS, "interventions.x.vector.heads"),
}  # fmt: skip


def tree_of(name: str, intervention: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"name": name}, "tasks": {"family": "bitwise"}, "interventions": {"x": intervention}}


@pytest.mark.parametrize("case", WRONG)
def test_a_folders_model_lacks_it(case, llama_folder):
    intervention, where = WRONG[case]
    with pytest.raises(SpecError) as error:
        check_on_model(study_of(tree_of(str(llama_folder), intervention)))
    assert error.value.one_line().startswith(where)


def test_validate_refuses_what_the_embedded_model_lacks(tmp_path, capsys):
    spec = write(tree_of("embedded", {"op": "zero", "layers": 99}), tmp_path / "s.yaml")
    assert main(["validate", spec]) == 2
    assert one_error(capsys).startswith("error: interventions.x.layers: ")


def test_a_model_of_the_cache(llama_folder, tmp_path, monkeypatch):
    """No network: the file lies where the Hub's client has put it; what is not there is passed over."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text((llama_folder / "config.json").read_text())
    refs = tmp_path / "models--org--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    study = study_of(tree_of("org/name", {"op": "zero", "layers": 4}))
    with pytest.raises(SpecError, match="layers"):
        check_on_model(study)
    check_on_model(study_of(tree_of("org/other", {"op": "zero", "layers": 4})))


def test_a_folder_that_is_not_here_is_passed_over():
    check_on_model(study_of(tree_of("/no/such/folder", {"op": "zero", "layers": 99})))


@pytest.mark.parametrize("folder", ["llama_folder", "gpt2_folder"])
def test_the_light_reading_agrees_with_the_full_one(folder, request):
    section = ModelSection(name=str(request.getfixturevalue(folder)))
    light, full = facts_at_home(section), open_model(section)[1]
    assert light is not None
    for fact in ("family", "layers", "width", "heads", "sites"):
        assert getattr(light, fact) == getattr(full, fact)


def test_a_configuration_that_tells_nothing(tmp_path: Path):
    for text in ("{", "[]", json.dumps({"model_type": "bert", "num_hidden_layers": 2}), json.dumps({})):
        (tmp_path / "config.json").write_text(text)
        assert facts_at_home(ModelSection(name=str(tmp_path))) is None
