"""What a state holds of a subspace, taken from another run (op swap): identities, from the spec to the run's tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from patchboard.commands.main import main
from tests.contract.cases import case_tree
from tests.contract.tiny import one_error, run, tiny_tree, write

AT = {"source": {"name": "flip", "align": "last"}, "position": "S2", "layers": [1, 3]}
PCA = {"pca": "same_task", "rank": 2, "shots": 0, "prompts": 6}


@pytest.fixture(scope="module")
def whole_space(llama_folder, tmp_path_factory) -> dict[str, str]:
    """A vector of the spec: the subspace that is the whole space."""
    width = json.loads((llama_folder / "config.json").read_text())["hidden_size"]
    tensors = {"all": torch.eye(width), "all/left": torch.eye(width), "all/center": torch.zeros(width)}
    file = tmp_path_factory.mktemp("space") / "all.safetensors"
    save_file(tensors, str(file))
    return {"file": str(file), "key": "all"}


def outcomes(folder: Path, out: Path, cases: Path, *arguments: str, **changes: Any) -> pl.DataFrame:
    assert run(tiny_tree(folder, **case_tree(cases, **changes)), out, *arguments) == 0
    return pl.read_parquet(out / "outcomes.parquet")


def test_the_whole_space_is_the_patch_and_strength_0_the_clean_run(llama_folder, cases, whole_space, tmp_path):
    sections = {
        "patched": {"op": "patch", **AT},
        "swapped": {"op": "swap", "vector": whole_space, **AT},
        "none": {"op": "swap", "vector": whole_space, **AT, "strength": 0.0},
        "part": {"op": "swap", "vector": PCA, **AT},
    }
    rows = outcomes(llama_folder, tmp_path / "run", cases, interventions=sections).sort("task", "query", "layer")
    own = {name: rows.filter(intervention=name, control="", metric="logprob") for name in sections}
    moved = {name: (table["patched"] - table["clean"]).abs().max() for name, table in own.items()}
    assert (own["swapped"]["patched"] - own["patched"]["patched"]).abs().max() < 1e-4
    assert moved["none"] < 1e-5 < 1e-3 < moved["part"] and moved["patched"] > 1e-3
    assert (own["part"]["patched"] - own["patched"]["patched"]).abs().max() > 1e-3
    still = rows.filter(control="self", metric="logprob")
    assert len(still) == 4 * len(own["part"]) and (still["patched"] - still["clean"]).abs().max() < 1e-4
    converted = rows.filter(intervention="part", metric="conversion")
    assert set(own["part"]["vector_task"]) == set(converted["vector_task"]) == {"flip"}


def test_rows_and_wavefront_agree_and_random_subspaces_are_converted_too(llama_folder, cases, tmp_path):
    changes: dict[str, Any] = {
        "interventions": {"part": {"op": "swap", "vector": PCA, **AT}}, "controls": [{"random": {"draws": 2}}],
    }  # fmt: skip
    packed, whole = (
        outcomes(llama_folder, tmp_path / way, cases, "--engine", way, **changes) for way in ("wavefront", "rows")
    )
    keys = ["query", "control", "vector_task", "layer", "metric"]
    both = packed.join(whole, on=keys, suffix="_rows")
    assert len(both) == len(packed) == len(whole)
    apart = both.filter(pl.col("metric") != "conversion")
    assert (apart["patched"] - apart["patched_rows"]).abs().max() < 1e-4
    drawn = packed.filter(control="random_subspace")
    assert set(drawn["vector_task"]) == {"flip~random0", "flip~random1"}
    assert "conversion" in set(drawn["metric"]), "what a fitted subspace converts is held against a random one"
    values = [packed.filter(vector_task=each, metric="logprob", layer=1)["patched"].to_list() for each in
              ("flip", "flip~random0", "flip~random1")]  # fmt: skip
    assert values[0] != values[1] != values[2]


def test_a_screen_runs_swaps_whole(llama_folder, cases, tmp_path):
    sections = {"part": {"op": "swap", "vector": PCA, **AT}, "each": {"op": "patch", **AT, "layers": "all"}}
    screen = {"method": "attribution", "keep": 1, "sample": 0}
    rows = outcomes(llama_folder, tmp_path / "run", cases, interventions=sections, screen=screen)
    assert set(rows.filter(intervention="part")["layer"]) == {1, 3}
    assert rows.filter(intervention="each")["layer"].n_unique() == 1


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (
            {"vector": PCA},
            "interventions.x.source: is missing, op swap takes the part of another run's state; add other_task, or a"
            " row's source",
        ),
        ({"source": "flip"}, "interventions.x.vector: is missing, op swap needs one; add {subspace: tasks, rank: 2}"),
        (
            {"source": "flip", "vector": {"mean": "same_task"}},
            "interventions.x.vector: is a mean, op swap needs a subspace; add {subspace: tasks, rank: 2}",
        ),
        (
            {"source": "flop", "vector": PCA},
            "interventions.x.source: unknown task 'flop'; did you mean 'flip'?",
        ),
        (
            {"source": "flip", "vector": PCA, "site": "mlp_act", "neurons": [1]},
            "interventions.x.neurons: a subspace is one of whole states, not of some neurons; leave neurons out, or use"
            " another vector",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(llama_folder, cases, tmp_path, capsys, section, told):
    tree = case_tree(cases, interventions={"x": {"op": "swap", **section}})
    assert run(tiny_tree(llama_folder, **tree), tmp_path / "run") == 2
    assert one_error(capsys) == f"error: {told}"


def test_a_script_cannot_hold_it(llama_folder, cases, tmp_path, capsys):
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions={"part": {"op": "swap", "vector": PCA, **AT}}))
    assert main(["emit", write(tree, tmp_path / "spec.yaml"), "--out", str(tmp_path / "script.py")]) == 2
    assert one_error(capsys) == (
        "error: --intervention: part puts in a part of a state, which a script cannot; emit others"
    )
