"""Single heads, states of other prompts, shared demonstrations: from the spec to the run's tables."""

from __future__ import annotations

import json

import polars as pl
import pytest

from tests.contract.tiny import VECTOR, one_error, run, tiny_tree
from tests.models import random_model, save


def outcomes(tree, out, *arguments) -> pl.DataFrame:
    assert run(tree, out, *arguments) == 0
    return pl.read_parquet(out / "outcomes.parquet")


def test_one_cell_a_block_and_head(llama_folder, tmp_path):
    heads = {"op": "patch", "vector": VECTOR, "site": "head", "layers": [1, 3]}
    both = {"edits": [{"op": "zero", "site": "head", "layers": 2, "heads": [0, 3]}]}
    tree = tiny_tree(llama_folder, interventions={"each": heads, "both": both}, decodability=None)
    rows = outcomes(tree, tmp_path / "out")
    own = rows.filter(pl.col("control") == "", pl.col("intervention") == "each")
    assert set(own.select("layer", "head").rows()) == {(layer, head) for layer in (1, 3) for head in range(4)}
    still = rows.filter(pl.col("control") == "self", pl.col("metric") == "logprob")
    assert (still["patched"] - still["clean"]).abs().max() < 1e-4
    moved = (
        own.filter(pl.col("metric") == "logprob")
        .group_by("layer", "head")
        .agg((pl.col("patched") - pl.col("clean")).abs().max())
    )
    assert moved["patched"].min() > 1e-4 and moved["patched"].n_unique() == 8, "each head has its own effect"
    together = rows.filter(pl.col("intervention") == "both", pl.col("control") == "")
    assert len(together) == 3 * 3 * 3 and set(together["head"]) == {-1}, "several heads in one cell"


def test_a_head_written_whole_is_the_attention_of_that_head(llama_folder, tmp_path):
    """Zeroing all four heads in one cell is zeroing the attention's output."""
    every = {"edits": [{"op": "zero", "site": "head", "layers": 2, "heads": "all"}]}
    tree = tiny_tree(
        llama_folder, interventions={"heads": every, "attention": {"op": "zero", "site": "attn_out", "layers": 2}},
        decodability=None, controls=[],
    )  # fmt: skip
    rows = outcomes(tree, tmp_path / "out").filter(pl.col("metric") == "logprob")
    heads, whole = (rows.filter(pl.col("intervention") == name) for name in ("heads", "attention"))
    assert (heads["patched"] - whole["patched"]).abs().max() < 1e-5
    assert (heads["patched"] - heads["clean"]).abs().max() > 1e-3


def test_the_last_state_of_another_prompt_gives_its_distribution(llama_folder, tmp_path):
    """Where both tasks have the same answer to the query, it gets the log-probability that the donor gave it."""
    whole = {"op": "resample", "source": "OR", "layers": 3, "position": "last"}
    none = {"op": "resample", "source": "OR", "layers": 3, "strength": 0.0}
    tree = tiny_tree(llama_folder, interventions={"whole": whole, "none": none}, decodability=None, controls=[])
    tree |= {"tasks": {"family": "bitwise", "bits": 4, "only": ["AND", "OR"]}, "prompts": {"shots": 1, "queries": 60}}
    rows = outcomes(tree, tmp_path / "out")
    unmoved = rows.filter(pl.col("intervention") == "none")
    assert (unmoved["patched"] - unmoved["clean"]).abs().max() < 1e-5
    and_rows = rows.filter(pl.col("intervention") == "whole", pl.col("task") == "AND").sort("query")
    clean_or = rows.filter(pl.col("intervention") == "whole", pl.col("task") == "OR").sort("query")
    prompts = pl.read_parquet(tmp_path / "out" / "prompts.parquet").filter(pl.col("role") == "evaluate")
    same = [
        answers.n_unique() == 1
        for answers in prompts.sort("query").group_by("query", maintain_order=True).agg("answer")["answer"]
    ]
    patched = and_rows.filter(pl.col("metric") == "logprob")["patched"].to_numpy()
    expected = clean_or.filter(pl.col("metric") == "logprob")["clean"].to_numpy()
    assert any(same) and abs(patched - expected)[same].max() < 1e-4
    converted = rows.filter(pl.col("metric") == "conversion", pl.col("task") == "AND")
    assert set(converted["vector_task"]) == {"OR"}, "scored against the donor's task as well"


def test_the_other_task_control_of_resampling_takes_another_tasks_states(llama_folder, tmp_path):
    own = {"op": "resample", "source": "same_task", "layers": 2}
    tree = tiny_tree(llama_folder, interventions={"own": own}, controls=["self", "other_task"], decodability=None)
    rows = outcomes(tree, tmp_path / "out").filter(pl.col("metric") == "logprob", pl.col("task") == "AND")
    mine, other = (rows.filter(pl.col("control") == control).sort("query") for control in ("", "other_task"))
    assert set(mine["vector_task"]) == {"AND"} and set(other["vector_task"]) == {"OR"}
    assert (mine["patched"] - other["patched"]).abs().min() > 1e-4


def test_shared_demonstrations_are_the_same_and_cost_less(llama_folder, tmp_path):
    def tree(demonstrations: str):
        return tiny_tree(
            llama_folder, prompts={"shots": 3, "queries": 4, "demonstrations": demonstrations}, decodability=None
        )

    costs = {}
    for kind in ("shared", "fresh"):
        rows = {engine: outcomes(tree(kind), tmp_path / f"{kind}-{engine}", "--engine", engine) for engine in
                ("wavefront", "rows")}  # fmt: skip
        left, right = (r.filter(pl.col("metric") == "logprob")["patched"].to_numpy() for r in rows.values())
        assert abs(left - right).max() < 1e-4
        plan = json.loads((tmp_path / f"{kind}-wavefront" / "plan.json").read_text())["models"][0]["cost"]
        costs[kind] = plan
        prompts = pl.read_parquet(tmp_path / f"{kind}-wavefront" / "prompts.parquet")
        texts = prompts.filter(pl.col("role") == "evaluate", pl.col("task") == "AND")["text"].to_list()
        assert (len({text.rsplit("\n", 1)[0] for text in texts}) == 1) == (kind == "shared")
        assert len({text.rsplit("\n", 1)[1] for text in texts}) == 4, "every query is another one"
    assert costs["shared"]["token_layers"] < costs["fresh"]["token_layers"]
    assert costs["shared"]["token_layers"] == costs["shared"]["bound"]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"op": "zero", "heads": [1]}, "interventions.z.heads: found the list [1] beside site resid_post"),
        ({"op": "zero", "site": "head", "heads": [4]}, "interventions.z.heads[0]: there is no head 4, the model has 4"),
        ({"op": "zero", "source": "OR"}, "interventions.z.source: op zero takes none"),
        ({"op": "resample", "source": "XORR"}, "interventions.z.source: unknown task 'XORR'; did you mean 'XOR'"),
        ({"op": "resample", "vector": VECTOR}, "interventions.z.vector: op resample takes none"),
        (
            {"op": "ablate", "site": "head", "vector": {"subspace": "tasks", "method": "leace"}},
            "interventions.z.vector.method: leace has no form for a single head",
        ),
    ],
)
def test_wrong_places_are_told(llama_folder, tmp_path, capsys, edit, says):
    assert run(tiny_tree(llama_folder, interventions={"z": edit}), tmp_path / "out") == 2
    assert says in one_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_site_that_the_family_lacks(tmp_path, capsys):
    folder = save(random_model("mamba2"), tmp_path / "mamba")
    tree = tiny_tree(folder, interventions={"z": {"op": "zero", "site": "mlp_out"}})
    assert run(tree, tmp_path / "out") == 2
    assert "interventions.z.site: there is no site 'mlp_out' in family 'mamba2'" in one_error(capsys)
    assert run(tiny_tree(folder), tmp_path / "out", "--engine", "wavefront") == 2
    assert "--engine: wavefront needs attention that takes a mask, mamba2 has none" in one_error(capsys)
    assert run(tiny_tree(folder), tmp_path / "out") == 0


def test_auto_takes_rows_where_they_are_less_work(llama_folder, tmp_path):
    """An edit at the first tokens makes a copy of nearly the whole prompt; the last token's stays in the sequence."""
    early = {"op": "zero", "layers": 0, "site": "resid_pre", "position": "demo_inputs"}
    late = {"op": "zero", "layers": 2}
    tree = tiny_tree(
        llama_folder, interventions={"early": early, "late": late}, prompts={"shots": 24, "queries": 3},
        decodability=None, controls=[],
    )  # fmt: skip
    mixed = outcomes(tree, tmp_path / "auto")
    plan = json.loads((tmp_path / "auto" / "plan.json").read_text())["models"][0]["cost"]
    assert set(plan["ways"]) == {"rows", "wavefront"}
    manifest = json.loads((tmp_path / "auto" / "manifest.json").read_text())
    (reason,) = manifest["engine"].values()
    assert reason.startswith("wavefront: ") and "as rows, where that is less work" in reason
    (model,) = manifest["models"]
    assert model["token_layers"]["computed"] == plan["token_layers"], "what ran is what was planned"
    whole = outcomes(tree, tmp_path / "wavefront", "--engine", "wavefront")
    assert (mixed["patched"] - whole["patched"]).abs().max() < 1e-4
    assert json.loads((tmp_path / "wavefront" / "plan.json").read_text())["models"][0]["cost"]["ways"] == {
        "wavefront": 3
    }
