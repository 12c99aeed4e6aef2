"""Features of a dictionary on a host: those that a spec names go along, and what they do is what it is here."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig

from tests.dictionaries import tensors, write_dictionary
from tests.remote.runs import assert_same_tables, run_here, run_remotely

NAMED = {"features": [5, 2, 11], "shots": 2, "prompts": 4, "only": "all"}


def dictionary_of(snapshot, folder, **config) -> str:
    width = AutoConfig.from_pretrained(snapshot.folder).hidden_size
    weights = tensors(width, 40, threshold=config.get("architecture") == "jumprelu")
    return write_dictionary(folder, weights, hook_name="blocks.1.hook_resid_post", **config)


def sections(path: str, scaled: str) -> dict:
    return {
        "a": {"op": "ablate", "vector": {"sae": path, **NAMED}, "layers": [1]},
        "c": {"op": "clamp_features", "vector": {"sae": scaled, **NAMED, "value": 3}, "layers": [1]},
        "s": {"op": "add", "vector": {"sae": path, **NAMED}, "layers": [1], "strength": 2},
    }


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--separate",), marks=pytest.mark.slow)], ids=["one process", "separate"]
)
def test_made_there_as_here(servers, llama_snapshot, tmp_path, options):
    """To the bit, with their unit from states on the host; a job holds their columns and not the dictionary."""
    path = dictionary_of(llama_snapshot, tmp_path / "d", architecture="jumprelu")
    scaled = dictionary_of(llama_snapshot, tmp_path / "n", normalize_activations="layer_norm")
    changes = {"interventions": sections(path, scaled), "controls": ["self"], "decodability": None}
    out = tmp_path / "run"
    status, _, err = run_remotely(llama_snapshot, servers(*options), out, "--quiet", "--job-tokens", "600", **changes)
    assert (status, err) == (0, "")
    here = run_here(llama_snapshot, tmp_path / "here", **changes)
    assert_same_tables(out, here)
    assert not (out / "features.parquet").exists() and (here / "features.parquet").exists()
    assert {*json.loads((out / "manifest.json").read_text())["vector_files"]} == {path, scaled}


def test_a_top_k_dictionary_stays_here(servers, llama_snapshot, tmp_path):
    path = dictionary_of(llama_snapshot, tmp_path / "d", architecture="topk", k=4)
    section = {"op": "ablate", "vector": {"sae": path, **NAMED}, "layers": [1]}
    changes = {"interventions": {"a": section}, "controls": [], "decodability": None}
    status, _, err = run_remotely(llama_snapshot, servers(), tmp_path / "run", "--quiet", **changes)
    assert status == 2 and "a.vector.sae: is a top-k dictionary, in which all features tell which are active" in err
