"""States of sources, read at other places than they are put in, on a host: the local run's tables, to the bit."""

from __future__ import annotations

import pytest

from tests.contract.cases import case_tree, write_cases
from tests.remote.runs import assert_same_tables, run_here, run_remotely

SECTIONS = {
    "swap": {"op": "patch", "source": {"name": "flip", "align": "all"}, "position": "S2", "layers": "all"},
    "earlier": {
        "op": "patch", "layers": [2, 3],
        "source": {"name": "third", "layer": 0, "site": "attn_out", "position": "IO.last"},
    },
    "later": {
        "op": "patch", "layers": [0, 1], "position": "S2",
        "source": {"name": "flip", "layer": 3, "position": "S2", "align": "all"},
    },
    "part": {
        "op": "swap", "source": {"name": "flip", "align": "last"}, "position": "S2", "layers": [1, 3],
        "vector": {"pca": "same_task", "rank": 2, "shots": 0, "prompts": 6},
    },
    "kept": {
        "op": "patch", "source": {"name": "flip", "align": "last"}, "site": "head",
        "keep": {"ranking": [[3, 1], [0, 2]], "first": {"sweep": [0, 2, "all"]}},
    },
    "frozen": {"edits": [
        {"op": "patch", "source": {"name": "flip", "align": "last"}, "layers": 0, "position": "S2"},
        {"op": "patch", "source": "clean", "site": "attn_out", "layers": {"together": [2, 3]}},
    ]},
    "weights": {
        "op": "patch", "source": "flip", "site": "pattern", "position": [12, 30], "layers": [1, 3], "heads": [0, 3],
    },
    "looking": {"edits": [
        {"op": "patch", "source": {"name": "flip", "align": "last"}, "layers": 0, "position": "S2"},
        {"op": "patch", "source": "clean", "site": "pattern", "layers": {"together": [1, 3]}},
    ]},
    "path": {
        "op": "path", "source": {"name": "flip", "align": "last"}, "sender": {"position": "S2"},
        "receivers": [{"site": "v", "heads": [[2, 1]], "position": "S2"}, {"layer": 2}],
    },
    "to_logits": {"op": "path", "source": "flip", "sender": {"site": "mlp_out"}, "frozen": "heads+mlps"},
    "traced": {"edits": [
        {"op": "noise", "site": "resid_pre", "layers": 0, "position": "S1", "strength": 3},
        {"op": "patch", "source": "clean", "layers": {"sweep": [1, 2]}, "position": ["S1", "S2"]},
    ]},
}  # fmt: skip


@pytest.mark.parametrize(
    "options", [(), pytest.param(("--separate",), marks=pytest.mark.slow)], ids=["one process", "separate"]
)
def test_a_remote_run_is_the_local_one(servers, llama_snapshot, tmp_path, options):
    metrics = ["logprob", "normalised_logit_difference", "kl_source"]
    changes = case_tree(write_cases(tmp_path / "cases.jsonl"), interventions=SECTIONS, metrics=metrics)
    status, _, err = run_remotely(llama_snapshot, servers(*options), tmp_path / "there", "--quiet", **changes)
    assert (status, err) == (0, "")
    here = run_here(llama_snapshot, tmp_path / "here", **changes)
    assert_same_tables(tmp_path / "there", here)
