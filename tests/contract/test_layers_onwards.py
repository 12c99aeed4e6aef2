"""``layers: {onwards: …}`` and ``{upto: …}``: a cell a layer that edits all later, or all earlier, blocks as well."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from patchboard.cli.arguments import Parser
from patchboard.cli.flags_study import study_of_flags
from patchboard.cli.run_flags import add_run_flags, parse_flags
from patchboard.engine.load import open_model
from patchboard.plan.build import build_plans
from patchboard.plan.cost import cost_of
from patchboard.plan.packs import Budget
from patchboard.plan.suffix import first_block
from patchboard.report.run_files import read_run
from patchboard.spec.study import study_of
from patchboard.track.series import series
from tests.contract.tiny import VECTOR, manifest_of, one_error, run, tiny_tree

LAYERS = 4
SUBSPACE = {"subspace": "tasks", "shots": 1, "prompts": 3, "rank": 2}


def erasing(**layers) -> dict:
    return {name: {"op": "ablate", "vector": SUBSPACE, "layers": value} for name, value in layers.items()}


def tree(folder, interventions, **changes) -> dict:
    return tiny_tree(folder, interventions=interventions, **changes)


@pytest.fixture(scope="module")
def made(llama_folder, tmp_path_factory):
    """Both axes, and the sets and single layers of which their cells are made."""
    asked = erasing(
        onwards={"onwards": "all"}, upto={"upto": "all"}, last_two={"together": [2, 3]}, first_two={"together": [0, 1]},
        each=[0, 3],
    )  # fmt: skip
    asked["some"] = {"op": "patch", "vector": VECTOR, "layers": {"onwards": [2, -1]}, "position": "query"}
    late = {"op": "zero", "layers": {"onwards": 2}, "site": "mlp_out"}
    asked["pair"] = {"edits": [late, {"op": "zero", "layers": {"upto": [1]}}]}
    folder = tmp_path_factory.mktemp("onwards") / "run"
    found = tree(llama_folder, asked, controls=["self", "random", "other_task"], metrics=["logprob"])
    assert run(found, folder, "--engine", "wavefront") == 0
    return folder


@pytest.fixture(scope="module")
def rows(made) -> pl.DataFrame:
    return pl.read_parquet(made / "outcomes.parquet").filter(pl.col("metric") == "logprob")


def patched(rows, name, layer, control="") -> list[float]:
    mine = rows.filter(intervention=name, layer=layer, control=control).sort("task", "query")
    assert len(mine) == 9
    return mine["patched"].to_list()


def places(rows, name) -> dict[int, str]:
    return dict(rows.filter(intervention=name, control="").select("layer", "layers").unique().sort("layer").rows())


def test_a_cell_stands_at_its_first_layer_and_upto_at_its_last(rows):
    assert places(rows, "onwards") == {0: "0,1,2,3", 1: "1,2,3", 2: "2,3", 3: "3"}
    assert places(rows, "upto") == {0: "0", 1: "0,1", 2: "0,1,2", 3: "0,1,2,3"}
    assert places(rows, "some") == {2: "2,3", 3: "3"}
    assert places(rows, "pair") == {0: "0,1,2,3"}, "in edits they are sets of one cell"


@pytest.mark.parametrize(
    ("one", "at", "other", "there"),
    [("onwards", 3, "each", 3), ("upto", 0, "each", 0), ("onwards", 2, "last_two", 2), ("upto", 1, "first_two", 0),
     ("onwards", 0, "upto", 3)],
)  # fmt: skip
def test_a_cell_is_that_of_the_same_blocks_together(rows, one, at, other, there):
    assert patched(rows, one, at) == pytest.approx(patched(rows, other, there), abs=1e-5)
    assert patched(rows, one, at) != pytest.approx(patched(rows, "onwards", 1), abs=1e-4), "another cell is another one"


def test_controls_follow(rows):
    controls = rows.filter(pl.col("control") != "").group_by("intervention").agg(pl.col("control").unique())
    found = {name: set(each) for name, each in controls.rows()}
    assert found["onwards"] == found["upto"] == {"self", "random_subspace"}
    assert found["some"] == {"self", "random", "other_task"} and found["pair"] == {"self"}
    assert all(rows.group_by("intervention", "layer").agg(pl.col("layers").n_unique())["layers"] == 1)
    still = rows.filter(control="self")
    assert (still["patched"] - still["clean"]).abs().max() < 1e-4
    assert patched(rows, "onwards", 0, "random_subspace") != pytest.approx(patched(rows, "onwards", 0), abs=1e-4)


def test_what_ran_is_what_was_planned(made):
    (plan,) = json.loads((made / "plan.json").read_text())["models"]
    (model,) = manifest_of(made)["models"]
    assert model["token_layers"]["computed"] == plan["cost"]["token_layers"]


@pytest.mark.parametrize("axis", ["onwards", "upto"])
def test_the_wavefront_computes_the_bound_and_each_block_has_its_own_subspace(llama_folder, axis):
    found = tree(llama_folder, erasing(e={axis: "all"}), controls=[], decodability=None)
    (plan,) = build_plans(study_of(found), open_model)
    cost = cost_of(plan, "wavefront", Budget())
    assert cost.token_layers == cost.bound
    group = plan.groups[0]
    cells = [(use.cell, group.copies[use.patched]) for use in group.uses]
    # one copy token in each block behind its first edit, which is at that block's output
    own = sum(LAYERS - first_block(copy) for _, copy in cells)
    assert own == {"onwards": 3 + 2 + 1 + 0, "upto": 4 * 3}[axis]
    for cell, copy in cells:
        blocks = range(cell.layer, LAYERS) if axis == "onwards" else range(cell.layer + 1)
        assert [edit.layer for edit in copy.edits] == list(blocks)
        assert [plan.recipes[edit.operand].layer for edit in copy.edits] == list(blocks)


def test_curves_series_and_sentences_are_by_that_layer(made, rows):
    found = read_run(made)
    assert set(series(found)["effect/onwards/logprob"]) == set(series(found)["effect/upto/logprob"]) == {0, 1, 2, 3}
    summary = found.summary["interventions"]
    assert [summary[name]["axis"] for name in ("onwards", "upto", "some", "pair", "each", "last_two")] == [
        "onwards", "upto", "onwards", None, None, None,
    ]  # fmt: skip
    for name in ("onwards", "upto"):
        assert summary[name]["correlation"]["layers"] == LAYERS
        assert summary[name]["layers"] == places(rows, name)[summary[name]["best_layer"]]
    page = (made / "report.html").read_text()
    assert "every layer with all later ones, one such cell a layer" in page
    assert "each of layers 2 and -1 with all later ones" in page and "layer 2 and all later ones" in page


def test_the_flag_keeps_the_form_or_gives_another(llama_folder, tmp_path):
    asked = erasing(onwards={"onwards": "all"}, upto={"upto": {"sweep": [0, "all"]}}, each="all")
    spec = tmp_path / "spec.yaml"
    spec.write_text(json.dumps(tree(llama_folder, asked)))

    def layers(*flags: str) -> list:
        parser = Parser()
        parser.add_argument("spec", type=Path)
        add_run_flags(parser)
        return [
            each["layers"]
            for each in study_of_flags(*parse_flags(parser, [str(spec), *flags])).tree["interventions"].values()
        ]

    assert layers("--layers=1:3") == [{"onwards": "1:3"}, {"upto": "1:3"}, "1:3"]
    assert layers("--layers={onwards: [3]}") == [{"onwards": [3]}] * 3
    assert layers("--layers", "{sweep: [0, [1, 2]]}")[1:] == [{"upto": {"sweep": [0, [1, 2]]}}, {"sweep": [0, [1, 2]]}]


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ({"onwards": 4}, "interventions.e.layers.onwards: there is no layer 4, the model has 4; choose 0 to 3"),
        ({"onward": "all"}, "interventions.e.layers: found the mapping {onward: all}, expected"),
        ({"upto": [1, 1]}, "interventions.e.layers.upto[1]: 1 stands in the list twice; keep one"),
    ],
)  # fmt: skip
def test_wrong_ones_are_told(llama_folder, tmp_path, capsys, layers, says):
    assert run(tree(llama_folder, erasing(e=layers)), tmp_path / "out") == 2
    assert says in one_error(capsys)


def test_in_edits_one_block_must_be_named(llama_folder, tmp_path, capsys):
    edits = [{"op": "zero", "layers": 1}, {"op": "zero", "layers": {"onwards": "all"}}]
    assert run(tree(llama_folder, {"e": {"edits": edits}}), tmp_path / "out") == 2
    error = one_error(capsys)
    assert "interventions.e.edits[1].layers.onwards: found the text 'all', expected one block: in edits," in error


def test_single_heads_of_several_blocks(llama_folder, tmp_path):
    heads = {"op": "zero", "site": "head", "heads": [1, 2], "layers": {"onwards": [1, 3]}}
    assert run(tree(llama_folder, {"h": heads}, controls=[], decodability=None), tmp_path / "out") == 0
    rows = pl.read_parquet(tmp_path / "out" / "outcomes.parquet")
    assert set(rows.select("layer", "layers", "head").rows()) == {
        (1, "1,2,3", 1), (1, "1,2,3", 2), (3, "3", 1), (3, "3", 2)
    }  # fmt: skip
