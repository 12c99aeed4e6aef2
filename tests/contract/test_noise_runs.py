"""Causal tracing: corrupting by noise and restoring, from a spec to the run's tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

import patchboard as pb
from patchboard.execution.choose_engine import sample_packs
from patchboard.plan.build import build_plans
from patchboard.plan.packs import Budget
from patchboard.spec.load import load_study
from tests.contract.cases import case_tree
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree, write

pytestmark = pytest.mark.drawn

NOISE = {"op": "noise", "site": "resid_pre", "layers": 0, "position": "S1", "strength": 3}


def restored(layers, position="S1", site="resid_pre", **noise) -> dict:
    back = {"op": "patch", "source": "clean", "site": site, "layers": layers, "position": position}
    return {"edits": [{**NOISE, **noise}, back]}


SECTIONS = {
    "noise": NOISE,
    "draws": {**NOISE, "draw": {"sweep": [0, 1]}},
    "traced": restored({"sweep": [0, 2]}),
    "whole": restored({"sweep": [1, 3]}, "all"),
    "weak": {**NOISE, "strength": 0.0},
}


def outcomes(folder, out, cases, *arguments, **changes) -> pl.DataFrame:
    tree = tiny_tree(folder, **case_tree(cases, **{"interventions": SECTIONS, "controls": ["self"], **changes}))
    assert run(tree, out, *arguments) == 0
    return pl.read_parquet(out / "outcomes.parquet").sort("intervention", "query")


def values(rows: pl.DataFrame, name: str, column: str = "patched", where: dict[str, Any] | None = None):
    wanted = rows.filter(intervention=name, metric="logprob", **{"control": "", **(where or {})}).sort("query")
    assert len(wanted) == 6 and wanted[column].is_finite().all()
    return wanted[column].to_numpy()


def test_restoring_undoes_the_noise(llama_folder, cases, tmp_path):
    rows = outcomes(llama_folder, tmp_path / "run", cases)
    clean, noised, swept = values(rows, "noise", "clean"), values(rows, "noise"), "interventions.traced.edits[1].layers"
    assert abs(noised - clean).min() > 1e-4
    assert abs(values(rows, "weak") - clean).max() < 1e-5
    assert abs(values(rows, "noise", where={"control": "self"}) - clean).max() < 1e-5, "no noise in the control"
    traced = {layer: values(rows, "traced", where={swept: layer}) for layer in (0, 2)}
    assert abs(traced[0] - clean).max() < 1e-5, "restored where it was corrupted"
    assert abs(traced[2] - clean).max() > 1e-3 and abs(traced[2] - noised).max() > 1e-3
    for layer in (1, 3):
        path = "interventions.whole.edits[1].layers"
        assert abs(values(rows, "whole", where={path: layer}) - clean).max() < 1e-5, (
            "restored whole: clean from there on"
        )
    draws = [values(rows, "draws", where={"interventions.draws.draw": draw}) for draw in (0, 1)]
    assert abs(draws[0] - noised).max() < 1e-6, "the draw that is meant where none is named"
    assert abs(draws[0] - draws[1]).min() > 1e-4
    assert manifest_of(tmp_path / "run")["models"][0]["embedding_sd"] > 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "adds Gaussian noise to the residual stream before the block at the tokens of S1, with strength 3" in page


def test_what_is_restored_is_drawn_as_a_map_of_layer_by_position(llama_folder, cases, tmp_path):
    """Along the layers of the edit that is swept, as if it stood alone; in the tables they are a setting."""
    places, layers = ["S1", "last"], [0, 2, 3]
    traced = restored({"sweep": layers})
    traced["edits"][1]["position"] = {"sweep": places}
    outcomes(llama_folder, tmp_path / "run", cases, interventions={"traced": traced, "noise": NOISE}, controls=[])
    assert (tmp_path / "run" / "figures" / "positions-logprob-traced.png").is_file()
    curves = pl.read_parquet(tmp_path / "run" / "curves.parquet").filter(metric="logprob", intervention="traced")
    assert set(curves["layer"]) == {0} and len(curves) == 6
    panel = pb.open(tmp_path / "run").plot(by="position", metric="logprob").axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == places[::-1], "from below"
    assert [label.get_text() for label in panel.get_xticklabels()] == ["0", "2", "3"]
    where = pl.struct("interventions.traced.edits[1].position", "interventions.traced.edits[1].layers")
    of_place = {tuple(place.values()): effect for place, effect in curves.select(where, "effect").iter_rows()}
    drawn = np.asarray(panel.images[0].get_array()).tolist()
    assert drawn == [[of_place[place, layer] for layer in layers] for place in places[::-1]]
    lines = {axes.get_title(loc="left"): axes for axes in pb.open(tmp_path / "run").plot(metric="logprob").axes}
    curve = lines["traced, position = last"].lines[-1]
    assert np.asarray(curve.get_xdata()).tolist() == layers
    assert np.asarray(curve.get_ydata()).tolist() == [of_place["last", layer] for layer in layers]


def test_noise_goes_by_seed_query_and_task_not_by_engine_or_packs(llama_folder, cases, tmp_path):
    one = {"noise": NOISE}
    first, second = (
        values(outcomes(llama_folder, tmp_path / way, cases, "--engine", way, interventions=one), "noise")
        for way in ("wavefront", "rows")
    )
    assert abs(first - second).max() < 1e-5
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions=one))
    (plan,) = build_plans(load_study(write(tree, tmp_path / "spec.yaml")), opener())
    seeds = {edit.seed for group in plan.groups for copy in group.copies for edit in copy.edits if edit.op == "noise"}
    assert len(seeds) == 1 and plan.has_noise and sample_packs(plan, "auto", Budget())
    tree["prompts"]["seed"] = 1
    (other,) = build_plans(load_study(write(tree, tmp_path / "other.yaml")), opener())
    assert not seeds & {e.seed for g in other.groups for c in g.copies for e in c.edits}


def opener():
    from patchboard.execution.run import open_model

    return open_model


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"op": "zero", "draw": 1}, "p.draw: op zero draws nothing; remove it, or write op: noise"),
        ({**NOISE, "source": "flip"}, "p.source: op noise takes none; remove it, or write op: resample"),
        ({**NOISE, "vector": {"mean": "same_task"}}, "p.vector: op noise takes none; remove it"),
        ({**NOISE, "draw": -1}, "p.draw: found -1, expected"),
        (
            {"op": "patch", "source": "zero"},
            "p.source: zero is no prompt, whose state could be taken; write op: zero",
        ),
        (
            {"op": "patch", "source": {"name": "mean"}},
            "p.source: mean is no prompt, whose state could be taken; write vector: {mean: same_task} in its place",
        ),
        (
            {"op": "add", "source": "noise"},
            "p.source: noise is no prompt, whose state could be taken; write op: noise",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line(llama_folder, cases, tmp_path, capsys, section, says):
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions={"p": {"layers": 1, **section}}))
    assert run(tree, tmp_path / "run") == 2
    assert one_error(capsys).startswith(f"error: interventions.{says}")
    assert not (tmp_path / "run").exists()


def test_a_spec_without_noise_is_what_it_was(llama_folder, cases, tmp_path):
    study = load_study(write(tiny_tree(llama_folder, **case_tree(cases, interventions={"p": NOISE})), tmp_path / "a"))
    assert "draw" not in study.tree["interventions"]["p"]
