"""Vectors made of states, not of means alone: fitted on the host as here, to the bit."""

from __future__ import annotations

import pytest
from safetensors.torch import load_file

from tests.remote.runs import assert_same_tables, run_here, run_remotely

FIT = {"shots": 2, "prompts": 4}
APART = {"logistic": ["same_task", "other_task"], "l2": 0.5, "only": "all", **FIT}
SECTIONS = {
    "m": {"op": "add", "vector": {"mass_mean": ["same_task", "all_tasks"], **FIT}, "layers": [1, 2]},
    "l": {"op": "add", "vector": APART, "layers": [1]},
    "h": {"op": "patch", "vector": {"logistic": ["AND", "OR"], **FIT}, "site": "head", "heads": [1], "layers": [1]},
    "p": {"op": "ablate", "vector": {"pca": "all_tasks", "rank": 3, **FIT}, "layers": [2]},
}
CHANGES = {"interventions": SECTIONS, "controls": ["random", "other_task", "shuffled"], "decodability": None}


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--separate",), marks=pytest.mark.slow)], ids=["one process", "separate"]
)
def test_fitted_there_as_here(servers, llama_snapshot, tmp_path, options):
    out, given = tmp_path / "run", ("--quiet", "--vectors", "--job-tokens", "600")
    status, _, err = run_remotely(llama_snapshot, servers(*options), out, *given, **CHANGES)
    assert (status, err) == (0, "")
    here = run_here(llama_snapshot, tmp_path / "here", **CHANGES)
    assert_same_tables(out, here)
    there, own = load_file(out / "vectors.safetensors"), load_file(here / "vectors.safetensors")
    assert there.keys() == own.keys() and all(there[key].equal(own[key]) for key in own)
    assert own["p/ALL/2"].shape[0] == 3 and own["m/AND/1"].norm() > 0


def test_paired_texts_go_along(servers, llama_snapshot, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"positive": "0 1 1", "negative": "1 0"}\n{"positive": "1 1", "negative": "0 0 1"}\n')
    vector = {"contrast": str(pairs), "fitted_at": {"position": "last"}}
    sections = {"c": {"op": "add", "vector": vector, "layers": [1, 2], "position": "all"}}
    changes = {"interventions": sections, "controls": ["random"], "decodability": None}
    status, _, err = run_remotely(llama_snapshot, servers(), tmp_path / "run", "--quiet", "--vectors", **changes)
    assert (status, err) == (0, "")
    here = run_here(llama_snapshot, tmp_path / "here", **changes)
    assert_same_tables(tmp_path / "run", here)
    own = load_file(here / "vectors.safetensors")
    assert all(load_file(tmp_path / "run" / "vectors.safetensors")[key].equal(own[key]) for key in own)
