"""Path patching as users run it: identities of its effects, what its rows tell, wrong paths in one line."""

from __future__ import annotations

import json

import polars as pl
import pytest

from tests.contract.cases import case_tree
from tests.contract.tiny import one_error, run, tiny_tree

SECTIONS = {
    "logits": {"op": "path", "source": "flip", "sender": {"site": "head", "heads": "all"}},
    "followed": {"op": "path", "source": "flip", "sender": {"site": "head"}, "frozen": "none"},
    "heads": {"op": "patch", "source": "flip", "site": "head", "layers": "all"},
    "held": {"op": "path", "source": "flip", "sender": {"site": "resid_post"}, "frozen": "heads+mlps"},
    "last": {"op": "patch", "source": "flip", "layers": 3},
    "later": {"op": "path", "source": {"name": "flip", "layer": 3, "site": "resid_post"},
              "sender": {"site": "resid_pre", "layers": 3}, "frozen": "none"},
    "put": {"op": "patch", "source": {"name": "flip", "layer": 3, "site": "resid_post"}, "site": "resid_pre",
            "layers": 3},
    "queries": {"op": "path", "source": "flip", "sender": {"site": "head"},
                "receivers": [{"site": "q", "heads": [[2, 1], [2, 3]]}]},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(llama_folder, cases, tmp_path_factory):
    out = tmp_path_factory.mktemp("paths") / "run"
    assert run(tiny_tree(llama_folder, **case_tree(cases, interventions=SECTIONS)), out) == 0
    return out


def effects(folder, name, control="") -> pl.DataFrame:
    rows = pl.read_parquet(folder / "outcomes.parquet").filter(
        intervention=name, control=control, metric="logit_difference"
    )
    return rows.with_columns(effect=pl.col("patched") - pl.col("clean")).sort("layer", "head", "query")


def test_identities(folder):
    """Nothing frozen, logits as receivers: patching the heads. A stream's change that nothing follows goes on as it is,
    whatever its layer was, but is another in each layer. A sender's own state sends nothing."""
    followed, heads = effects(folder, "followed"), effects(folder, "heads")
    assert heads["effect"].abs().max() > 1e-3
    assert (followed["effect"] - heads["effect"]).abs().max() < 1e-4
    held, last = effects(folder, "held"), effects(folder, "last")
    assert held["layer"].unique().sort().to_list() == [0, 1, 2], "the last layer's stream is the receiver"
    assert (held.filter(layer=0)["effect"] - held.filter(layer=1)["effect"]).abs().max() > 1e-4
    assert last["effect"].abs().max() > 1e-3
    later, put = effects(folder, "later"), effects(folder, "put")
    assert put["effect"].abs().max() > 1e-3 and (later["effect"] - put["effect"]).abs().max() < 1e-4
    for name in ("logits", "queries", "held"):
        assert effects(folder, name, "self")["effect"].abs().max() < 1e-4, name


def test_rows_tell_the_senders_place(folder):
    rows = effects(folder, "queries")
    assert set(rows["op"]) == {"path"} and set(rows["site"]) == {"head"} and set(rows["position"]) == {"last"}
    assert set(rows.select("layer", "head").iter_rows()) == {(layer, head) for layer in (0, 1) for head in range(4)}
    assert effects(folder, "logits")["layer"].n_unique() == 4
    assert rows["effect"].abs().max() > 1e-5


def test_the_plan_counts_both_runs_of_a_path(folder):
    """By hand, of every cell, control and query: a pass for the sender's run and one for the receivers'. With nothing
    between a sender and its receivers it does not matter what is frozen: those are counted once."""
    cost = json.loads((folder / "plan.json").read_text())
    counts = cost["models"][0]["cost"] if "models" in cost else cost
    paths, patched = 2 * (16 + 16 + 3 + 8 + 1), 2 * (16 + 1 + 1)
    same_cell, same_run = 2 * 4, 2 * (4 + 4)  # logits and followed in layer 3; also followed and queries in layer 1
    assert counts["loop_forwards"] == 6 * (2 + paths + (paths - same_run) - same_cell + patched)


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ({"op": "path", "source": "flip"}, "interventions.p.sender: is missing, op path needs it; add {site: head}"),
        (
            {"op": "path", "sender": {}},
            "interventions.p.source: is missing, op path needs it; add a row's source, or other_task",
        ),
        ({"op": "patch", "source": "flip", "sender": {}}, "interventions.p.sender: op patch takes none; remove it"),
        (
            {"op": "path", "source": "flip", "sender": {}, "layers": 1},
            "interventions.p.layers: found the whole number 1 beside sender, which says where; write layers in sender",
        ),
        (
            {"op": "path", "source": "flip", "sender": {"layers": 3}, "receivers": [{"layer": 1}]},
            "interventions.p.sender: is at layer 3 head, and all receivers come before; leave that layer out",
        ),
        (
            {"op": "path", "source": "flip", "sender": {}, "receivers": [{"site": "q"}]},
            "interventions.p.receivers[0].heads: is missing at site q; write pairs as in [[9, 6], [10, 0]]",
        ),
        (
            {"op": "path", "source": "flip", "sender": {}, "receivers": [{"site": "q", "heads": [[2, 9]]}]},
            "interventions.p.receivers[0].heads[0]: there is no head 9, the model has 4; choose 0 to 3",
        ),
        (
            {"op": "path", "source": "flip", "sender": {"position": "S4"}},
            "interventions.p.sender.position: unknown position 'S4'",
        ),
        (
            {"op": "path", "source": "flip", "sender": {}, "vector": {"mean": "same_task"}},
            "interventions.p.vector: op path takes none; remove it",
        ),
        (
            {"op": "patch", "source": "flip", "frozen": "heads"},
            "interventions.p.frozen: stands without a sender; add sender: {site: head}",
        ),
        (
            {"op": "path", "source": "flip", "sender": {"site": "q", "layers": {"together": [0, 1]}}},
            "interventions.p.sender.layers: q of several layers sends, and the rest of those layers cannot be held",
        ),
    ],
)
def test_wrong_paths_are_one_line(llama_folder, cases, tmp_path, capsys, section, line):
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions={"p": section}))
    assert run(tree, tmp_path / "out") == 2
    assert one_error(capsys).removeprefix("error: ").startswith(line)
    assert not (tmp_path / "out").exists()
