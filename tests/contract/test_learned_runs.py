"""Vectors that are learned through the model: seeds, resuming, ending early, what it costs, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from patchboard.engine import teaching
from patchboard.engine.teaching import Teacher
from patchboard.execution.planned import plan_study
from patchboard.execution.run import Options, run_study
from patchboard.plan.cost import cost_of
from patchboard.plan.packs import Budget
from patchboard.spec import load_study, study_of
from tests.contract.cases import case_tree
from tests.contract.tiny import manifest_of, one_error, run, tiny_tree

FEW = {"prompts": 24, "steps": 20, "batch": 6}
SWAP = {"op": "swap", "source": {"name": "flip", "align": "last"}, "position": "S2"}
SECTIONS = {
    "swapped": {**SWAP, "vector": {"das": "flip", "rank": 2, **FEW}, "layers": [0, 2]},
    "erased": {"op": "ablate", "vector": {"das": "flip", "rank": 2, **FEW}, "position": "last", "layers": [2]},
    "steered": {"op": "add", "vector": {"steer": "same_task", **FEW}, "site": "head", "heads": [1], "layers": [1]},
}


def ran(folder: Path, cases: Path, out: Path, engine: str = "auto", **changes: Any) -> Path:
    tree = tiny_tree(folder, **case_tree(cases, **{"interventions": SECTIONS, **changes}))
    return run_study(study_of(tree), Options(out=out, engine=engine))


@pytest.fixture(scope="module")
def whole(llama_folder, cases, tmp_path_factory) -> Path:
    return ran(llama_folder, cases, tmp_path_factory.mktemp("whole") / "run", controls=["self", "random"])


def vectors(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "vectors.safetensors")


def test_columns_are_orthonormal_and_the_centre_is_the_mean_of_the_fit_states(whole):
    found = vectors(whole)
    for key in ("swapped/counterfactual/0", "erased/counterfactual/2"):
        right = found[key]
        torch.testing.assert_close(right @ right.T, torch.eye(2), atol=1e-5, rtol=0)
        assert torch.equal(found[f"{key}/left"], right.T) and found[f"{key}/center"].norm() > 0.1
    assert found["steered/counterfactual/1.1"].shape == (12,), "of one head"
    places = json.loads(_stamp(whole)["places"])
    fitted = places["swapped/counterfactual/0"]["fitted"]
    assert (fitted["kind"], fitted["source"], fitted["rank"], fitted["steps"]) == ("das", "flip", 2, 20)


def _stamp(folder: Path) -> dict[str, str]:
    from patchboard.store.vectors import read_stamp

    return read_stamp(folder / "vectors.safetensors")


def test_a_run_that_is_killed_goes_on_where_it_was(llama_folder, cases, whole, tmp_path, monkeypatch):
    original, taught = Teacher.run, []

    def once(self: Teacher, step: Any) -> Any:
        if len(taught) == 1:
            raise KeyboardInterrupt
        taught.append(self.training.id)
        return original(self, step)

    monkeypatch.setattr(Teacher, "run", once)
    with pytest.raises(KeyboardInterrupt):
        ran(llama_folder, cases, tmp_path / "run", controls=["self", "random"])
    assert {path.name for path in (tmp_path / "run" / "parts").iterdir()} >= {
        "learned0.parquet",
        "learned0.safetensors",
    }
    later: list[str] = []
    monkeypatch.setattr(Teacher, "run", lambda self, step: later.append(self.training.id) or original(self, step))
    resumed = ran(llama_folder, cases, tmp_path / "run", controls=["self", "random"])
    assert taught == ["learned0"] and later == ["learned1", "learned2"]
    undisturbed, found = vectors(whole), vectors(resumed)
    assert undisturbed.keys() == found.keys() and all(torch.equal(found[key], undisturbed[key]) for key in found)
    for name in ("learned.parquet", "outcomes.parquet", "effects.parquet"):
        assert pl.read_parquet(resumed / name).equals(pl.read_parquet(whole / name), null_equal=True)


def test_what_one_layer_learns_is_blind_to_the_others_and_told_by_the_seed(llama_folder, cases, whole, tmp_path):
    alone = {"swapped": {**SECTIONS["swapped"], "layers": [2]}}
    one = ran(llama_folder, cases, tmp_path / "one", interventions=alone)
    same = vectors(one)["swapped/counterfactual/2"]
    torch.testing.assert_close(same, vectors(whole)["swapped/counterfactual/2"], atol=1e-4, rtol=0)
    still = {**SECTIONS["swapped"]["vector"], "learning_rate": 1e-6, "steps": 1}
    first = [
        vectors(
            ran(llama_folder, cases, tmp_path / f"{seed}", interventions={
                "swapped": {**alone["swapped"], "vector": {**still, "seed": seed}}})
        )["swapped/counterfactual/2"]
        for seed in (0, 1)
    ]  # fmt: skip
    assert (first[1] - first[0]).abs().max() > 0.05, "another rotation to begin with"
    assert (same - first[0]).abs().max() > 0.05, "which it has left"


def test_two_interventions_share_what_they_learn_alike(llama_folder, cases, tmp_path):
    vector, place = SECTIONS["swapped"]["vector"], {"position": "last", "layers": [2]}
    both = {
        "swapped": {"op": "swap", "source": "flip", "vector": vector, **place},
        "erased": {"op": "ablate", "vector": vector, **place},
    }
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions=both, controls=["random"]))
    (plan,) = plan_study(study_of(tree))
    (training,) = plan.trainings
    assert training.keys == (("swapped/counterfactual/2", "erased/counterfactual/2"),)
    found = vectors(run_study(study_of(tree), Options(out=tmp_path / "run")))
    assert torch.equal(found["swapped/counterfactual/2"], found["erased/counterfactual/2"])
    drawn = [found[f"{name}/counterfactual~random0/2"] for name in both]
    assert not torch.equal(*drawn), "their random counterparts are their own"


def test_it_ends_early_and_keeps_the_best_look(llama_folder, cases, tmp_path, monkeypatch):
    """At a rate of nearly nothing the second look may gain by chance, but soon none does any more."""
    monkeypatch.setattr(teaching, "LinearLR", lambda optimiser, *_: _Backwards(optimiser))
    vector = {**SECTIONS["swapped"]["vector"], "steps": 80, "patience": 2}
    sections = {"swapped": {**SWAP, "vector": vector, "layers": [0, 2]}}
    passes = []
    original = Teacher._step
    monkeypatch.setattr(
        Teacher, "_step", lambda self, left, *rest: passes.append(len(left)) or original(self, left, *rest)
    )
    table = pl.read_parquet(ran(llama_folder, cases, tmp_path / "run", interventions=sections) / "learned.parquet")
    assert len(passes) < 80 and len(passes) % 10 == 0 and passes[0] == 2
    for _, rows in table.group_by("vector"):
        kept = rows.filter("chosen")
        assert len(kept) == 1 and kept["held_out_loss"][0] == rows["held_out_loss"].min()
        assert len(rows.filter(pl.col("step") > kept["step"][0])) == 2
    assert passes[-1] == len(table.filter(pl.col("step") == table["step"].max())), "who is done is left out of passes"


class _Backwards:
    """A schedule that, after ten steps, makes every further step lead uphill."""

    def __init__(self, optimiser: torch.optim.Optimizer):
        self.optimiser, self.steps = optimiser, 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == 10:
            for group in self.optimiser.param_groups:
                group["maximize"] = True


@pytest.mark.parametrize("engine", ["rows", "auto"])
def test_the_plan_counts_what_is_computed(llama_folder, cases, tmp_path, engine):
    sections = {"swapped": {**SWAP, "vector": {**SECTIONS["swapped"]["vector"], "patience": 99}, "layers": [0, 2]}}
    tree = tiny_tree(llama_folder, **case_tree(cases, interventions=sections))
    (plan,) = plan_study(study_of(tree))
    cost = cost_of(plan, engine, Budget())
    out = ran(llama_folder, cases, tmp_path / "run", engine=engine, interventions=sections)
    counted = manifest_of(out)["models"][0]["token_layers"]
    computed = counted["computed"]
    assert (counted["sample"] > 0) == (engine == "auto")
    assert computed == cost.token_layers + cost.learning_token_layers > 2 * cost.token_layers
    assert cost.learned == 2 and cost.learning_passes > 20
    assert "learned" not in cost_of(plan_study(study_of(tiny_tree(llama_folder)))[0], "auto", Budget()).as_dict()


def test_less_memory_takes_more_passes_and_learns_the_same(llama_folder, cases, whole, tmp_path, monkeypatch):
    original, seen = teaching.slopes, []

    def tight(engine: Any, group: Any, packs: Any, *rest: Any) -> Any:
        seen.append(len(packs))
        if len(packs) == 1:
            raise MemoryError
        return original(engine, group, packs, *rest)

    monkeypatch.setattr(teaching, "slopes", tight)
    out = ran(llama_folder, cases, tmp_path / "run", interventions={"swapped": SECTIONS["swapped"]})
    assert seen[0] == 1 < min(seen[-5:])
    for key in ("swapped/counterfactual/0", "swapped/counterfactual/2"):
        torch.testing.assert_close(vectors(out)[key], vectors(whole)[key], atol=1e-4, rtol=0)


def test_a_run_file_is_used_as_it_was_learned(llama_folder, cases, whole, tmp_path):
    given = {"file": str(whole / "vectors.safetensors"), "key": "swapped/{task}/{layer}"}
    sections = {"swapped": {**SWAP, "vector": given, "layers": [0, 2]}}
    used = pl.read_parquet(ran(llama_folder, cases, tmp_path / "run", interventions=sections) / "outcomes.parquet")
    learned = pl.read_parquet(whole / "outcomes.parquet").filter(intervention="swapped", control="")
    both = used.filter(control="").join(learned, on=["query", "layer", "metric"], suffix="_learned")
    assert len(both) == len(learned) > 0 and (both["patched"] - both["patched_learned"]).abs().max() < 1e-5


def test_demonstrations_are_as_many_as_the_evaluated_prompts_have(llama_folder, tmp_path):
    vector = {"steer": "same_task", "prompts": 12, "steps": 1}
    tree = tiny_tree(
        llama_folder, prompts={"shots": {"sweep": [0, 2]}, "queries": 2}, decodability=None,
        interventions={"as": {"op": "add", "vector": vector, "layers": 1},
                       "own": {"op": "add", "vector": {**vector, "shots": 1}, "layers": 1}},
    )  # fmt: skip
    study = study_of(tree)
    assert "shots" not in study.tree["interventions"]["as"]["vector"]
    assert study_of(study.tree).digest == study.digest
    (plan,) = plan_study(study)
    shots = {key: training.group.shots for training in plan.trainings for (key,) in training.keys if "/AND/" in key}
    assert shots == {"as@prompts.shots=0/AND/1": 0, "as@prompts.shots=2/AND/1": 2, "own/AND/1": 1}


def test_specs_of_before_say_nothing_of_learning(llama_folder):
    told = study_of(tiny_tree(llama_folder)).tree["interventions"]["p"]["vector"]
    assert {"mean", "shots", "prompts", "only", "method"} <= told.keys()
    assert (
        not {"das", "steer", "steps", "batch", "learning_rate", "patience", "seed", "norm", "boundless"} & told.keys()
    )


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({**SWAP, "vector": {"das": "same_task"}},
         "interventions.x.vector.das: found same_task, expected whose prompts the pairs are with: other_task, or a"
         " source of the rows; "),
        ({**SWAP, "vector": {"das": "other_task"}},
         "interventions.x.vector.das: other_task needs two tasks, the family gives one; add tasks"),
        ({"op": "add", "vector": {"das": "flip"}},
         "interventions.x.vector: is a das, op add needs a vector; add {mean: same_task}"),
        ({"op": "patch", "vector": {"steer": "same_task"}},
         "interventions.x.op: found patch, and a steer vector is learned to be added; write op: add"),
        ({"op": "add", "vector": {"steer": "all_tasks"}},
         "interventions.x.vector.steer: found all_tasks, and it is learned to bring the answers of one task; "),
        ({"op": "add", "vector": {"mean": "same_task", "steps": 3}},
         "interventions.x.vector.steps: found the whole number 3 beside mean, but only das or steer has steps; "),
        ({**SWAP, "vector": {"das": "flip", "norm": 2.0}},
         "interventions.x.vector.norm: found the number 2.0 beside das, but only steer has norm; remove it"),
        ({**SWAP, "vector": {"das": "flip", "only": "all"}},
         "interventions.x.vector.only: found the text 'all' beside das, which is learned on all of its prompts; "),
        ({**SWAP, "vector": {"das": "flip", "boundless": True}},
         "interventions.x.vector.rank: is missing, boundless learns how many dimensions are needed, up to a rank; "),
        ({**SWAP, "vector": {"das": "flip", "rank": 49}},
         "interventions.x.vector.rank: 49 dimensions of states of 48 at resid_post; use at most 48"),
        ({**SWAP, "vector": {"das": "flip", "prompts": 7}},
         "interventions.x.vector.das: 7 of 7 fit prompts of counterfactual, whose answer under flip is another, can be"
         " learned on, it takes 8; use more prompts, or another source or position"),
        ({"edits": [{"op": "zero", "layers": 0}, {**SWAP, "vector": {"das": "flip", "prompts": 7}}]},
         "interventions.x.edits[1].vector.das: 7 of 7 fit prompts of counterfactual, "),
        ({**SWAP, "vector": {"das": "third", "prompts": 9}},
         "interventions.x.vector.das: 0 of 9 fit prompts of counterfactual, whose answer under third is another, can"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_in_one_line(llama_folder, cases, tmp_path, capsys, section, told):
    tree = case_tree(cases, interventions={"x": section})
    assert run(tiny_tree(llama_folder, **tree), tmp_path / "run") == 2
    assert one_error(capsys).startswith(f"error: {told}")


def test_corrupted_prompts_and_hosts_are_refused(llama_folder, cases, tmp_path, capsys):
    prompts = {**case_tree(cases)["prompts"], "corrupted": "flip"}
    tree = case_tree(cases, prompts=prompts, interventions={"x": {**SWAP, "source": "base", "vector": {"das": "flip"}}})
    assert run(tiny_tree(llama_folder, **tree), tmp_path / "run") == 2
    assert one_error(capsys) == (
        "error: interventions.x.vector.das: is learned on rows as they were, and prompts.corrupted is flip; leave"
        " prompts.corrupted out"
    )
    tree = case_tree(cases, interventions={"x": {**SWAP, "vector": {"das": "flip"}}})
    for flags in ([], ["--plan"]):
        asked = ["--remote", "http://127.0.0.1:9", *flags]
        assert run(tiny_tree(llama_folder, **tree), tmp_path / "run", *asked) == 2
        assert one_error(capsys) == (
            "error: interventions.x.vector.das: cannot be learned on a host, which may give a job copies of states,"
            " without gradients; learn it here, and use its file with --remote"
        )


def test_the_report_tells_how_it_was_learned(whole):
    page = (whole / "report.html").read_text()
    assert "swapped: learned through the model on at least 18 prompts a task of the fit half" in page
    assert "On those held out of it (at least 6 a task) the answer that it is to bring is given in" in page
    assert "the 2-dimensional subspace learned on pairs with flip (by gradients, 20 steps of 6 at most" in page
    assert "figures/learned.png" in {str(file.relative_to(whole)) for file in whole.rglob("*.png")}
    assert load_study(whole / "spec.yaml").digest == manifest_of(whole)["digest"]
