"""Control `shuffled`: vectors of the same fit prompts with each other's answers, judged as the prompts' own are."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from patchboard.engine.batches import judge_of
from patchboard.engine.load import load_weights, open_model
from patchboard.engine.local import LocalEngine
from patchboard.errors import SpecError
from patchboard.plan.build import build_plans
from patchboard.plan.model import Fit
from patchboard.plan.validate import check_study
from patchboard.report.findings import findings
from patchboard.spec import study_of
from patchboard.tasks.base import NULL
from patchboard.tasks.prompt import Prompt
from patchboard.vectors.make import make_here
from tests.contract.tiny import run, tiny_tree

VECTOR = {"mean": "same_task", "shots": 3, "prompts": 8}
SUBSPACE = {"subspace": "tasks", "shots": 3, "prompts": 8}


def tree(model, **changes):
    interventions = {
        "p": {"op": "patch", "vector": VECTOR, "layers": [2]},
        "first": {"op": "add", "vector": VECTOR, "layers": [0], "site": "resid_pre"},
        "l": {"op": "ablate", "vector": {**SUBSPACE, "method": "leace"}, "layers": [2]},
        "null": {"op": "patch", "vector": {**VECTOR, "mean": "null_task"}, "layers": [2]},
        "z": {"op": "zero", "layers": [2]},
    }
    given = {"interventions": interventions, "controls": ["shuffled"], "decodability": None, **changes}
    return tiny_tree(model, prompts={"shots": 1, "queries": 3}, **given)


@pytest.fixture(scope="module")
def plan(llama_folder):
    study = study_of(tree(llama_folder))
    check_study(study)
    (found,) = build_plans(study, open_model)
    return found


@pytest.fixture(scope="module")
def engine(plan):
    return LocalEngine(load_weights(plan.section, "cpu", "auto"), open_model(plan.section)[0])


def by_parity(logits, target, foil, clean):
    """Right by what the model says, so that it depends on the demonstrations; some are and some are not."""
    return (logits.argmax(-1) % 2 == 0).float()


def test_the_same_rows_with_answers_that_changed_places(plan):
    own, shuffled = plan.fits
    assert (shuffled.answers, shuffled.judged_by, own.judged_by) == ("shuffled", own.id, "")
    for task in plan.fits[0].labels:
        for before, after in zip(own.prompts[task], shuffled.prompts[task], strict=True):
            lines = [[line.split(" -> ") for line in p.text.split("\n")] for p in (before, after)]
            assert [line[0] for line in lines[0]] == [line[0] for line in lines[1]], "same inputs, same query"
            assert sorted(line[1:] for line in lines[0]) == sorted(line[1:] for line in lines[1]), "same answers"
            assert before.answer_ids == after.answer_ids


def test_cells_are_those_of_the_intervention_but_for_the_vector(plan):
    for group in plan.groups:
        cells = {(use.cell.intervention, use.cell.control): use.cell for use in group.uses}
        assert {name for name, control in cells if control} == {"p", "first", "l"}, "not of null's vector, nor of none"
        for name in ("p", "first", "l"):
            own, control = cells[name, ""], cells[name, "shuffled"]
            assert control.converts_to == own.converts_to and control.vector_task == own.vector_task + "~shuffled"
            (before,), (after,) = own.edits, control.edits
            assert vars(before) | {"operand": ""} == vars(after) | {"operand": ""}
            recipes = [vars(plan.recipes[edit.operand]) | {"key": "", "fit": ""} for edit in (before, after)]
            assert recipes[0] == recipes[1]


def test_only_correct_goes_by_the_same_prompts(plan, engine):
    """A prompt counts where its twin with its own answers is right, whatever the model says to the shuffled one."""
    fits = [Fit(**{**vars(fit), "keep_states": True}) for fit in plan.fits]
    alone = engine.fit([Fit(**{**vars(fits[1]), "judged_by": ""})], score=by_parity)
    both = engine.fit(fits, score=by_parity)
    (own, place), (shuffled, _) = ((fit.id, fit.places[0]) for fit in fits)

    def kept(statistics, fit):
        found = {}
        for task, _, keep in statistics[fit, place].states:
            found.setdefault(task, []).append(keep)
        return {task: torch.cat(parts).tolist() for task, parts in found.items() if task != NULL}

    assert kept(both, shuffled) == kept(both, own)
    assert kept(alone, shuffled) != kept(both, own), "the model is not right on the same prompts, so the test can see"
    operands = make_here(plan.recipes, both, engine.projected)
    states = {task: s[:, fits[1].layers.index(2)] for task, s, _ in both[shuffled, place].states}
    keep = torch.tensor(kept(both, own)["AND"])
    expected = states["AND"].double()[keep].mean(0).float()
    torch.testing.assert_close(operands["p/AND~shuffled/2"], expected)
    assert (operands["p/AND~shuffled/2"] - operands["p/AND/2"]).norm() > 1e-3


def test_twins_are_found_where_prompts_are_excluded():
    def fit(name, excluded, judge=""):
        prompts = tuple(Prompt("A", "", "", excluded="why" if i in excluded else "") for i in range(5))
        return Fit(name, {"A": prompts}, ("A",), 2, (), (), False, "own", judge)

    own, shuffled = fit("own", {1}), fit("other", {1, 3}, "own")
    assert judge_of(shuffled, [own, shuffled]) == ("own", {"A": [0, 1, 3]}) and judge_of(own, [own]) is None


def test_where_pairing_cannot_matter_the_effect_is_the_interventions_and_elsewhere_it_is_not(
    llama_folder, tmp_path, monkeypatch
):
    """What enters the first block at the last token holds nothing of the demonstrations."""
    monkeypatch.setattr("patchboard.execution.run._report", lambda folder: None)  # figures take ten times as long
    assert run(tree(llama_folder), tmp_path / "run") == 0
    effects = pl.read_parquet(tmp_path / "run" / "effects.parquet").filter(metric="logprob").sort("task")

    def patched(name, control):
        return effects.filter(intervention=name, control=control)["patched"].to_list()

    assert patched("first", "shuffled") == pytest.approx(patched("first", ""), abs=1e-5)
    for name in ("p", "l"):
        pairs = zip(patched(name, ""), patched(name, "shuffled"), strict=True)
        assert min(abs(a - b) for a, b in pairs) > 1e-4, name


@pytest.mark.parametrize(
    ("interventions", "message"),
    [
        ({"p": {"op": "patch", "vector": {**VECTOR, "shots": 1}}},
         "interventions.p.vector.shots: control shuffled needs at least 2 demonstrations, shots is 1; use more shots,"
         " or leave shuffled out of controls"),
        ({"p": {"op": "patch", "vector": {**VECTOR, "shots": {"sweep": [4, 0]}}}},
         "interventions.p.vector.shots: control shuffled needs at least 2 demonstrations, shots is 0; use more shots,"
         " or leave shuffled out of controls"),
        ({"z": {"op": "zero"}, "s": {"op": "scale", "strength": 2}},
         "controls[0]: shuffled needs an intervention with a vector fitted on demonstrations of a task, there is none;"
         " leave it out"),
        ({"n": {"op": "patch", "vector": {"mean": "null_task"}}},
         "controls[0]: shuffled needs an intervention with a vector fitted on demonstrations of a task, there is none;"
         " leave it out"),
    ],
)  # fmt: skip
def test_where_it_has_no_meaning_it_is_refused(llama_folder, interventions, message):
    with pytest.raises(SpecError) as caught:
        check_study(study_of(tree(llama_folder, interventions=interventions)))
    assert str(caught.value) == message


def test_findings_say_what_an_overlap_means():
    value = {"clean": 0.0, "patched": 0.5, "effect": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 9}
    point = {
        "at": {}, "best_layer": 1, "layers": "1", "head": None, "axis": None, "conversion": None,
        "controls": {"random": value, "shuffled": value, "self": {**value, "ci_low": 0.0, "ci_high": 0.1}}, **value,
    }  # fmt: skip
    summary = {"metric": "kl", "accuracy_against_cd": None, "interventions": {"p": {"points": [point]}}}
    (said,) = findings(summary)
    assert "overlaps that of random: the effect may not be the concept's own." in said
    assert "overlaps that of shuffled: it may not need the pairing of inputs and answers." in said
