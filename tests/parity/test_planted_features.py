"""Planted truth: a dictionary whose features are the known directions of the hand-built model of ``test_planted``."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from patchboard.execution.run import Options, run_study
from patchboard.ops import OPS
from patchboard.spec import study_of
from patchboard.vectors.dictionaries.dictionary import opened
from patchboard.vectors.dictionaries.weights import some_features
from tests.dictionaries import write_dictionary
from tests.parity.test_planted import CONCEPT, CONSTANT, LAYERS, WIDTH, WRITES, planted  # noqa: F401

YES, NO = 5, 9
"""Numbers of the features of the concept: active where it is above 0 (task yes), and below (task no)."""
SIZE = 40


def weights() -> dict[str, torch.Tensor]:
    """Features along single dimensions: the constant, the concept and its opposite, all others along random directions
    of the dimensions that hold neither."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.zeros(SIZE, WIDTH)
    directions[:, 3:] = torch.nn.functional.normalize(torch.randn(SIZE, WIDTH - 3, generator=generator), dim=-1)
    for number, dimension, sign in ((0, CONSTANT, 1.0), (YES, CONCEPT, 1.0), (NO, CONCEPT, -1.0)):
        directions[number] = 0
        directions[number, dimension] = sign
    return {"W_enc": directions.T, "W_dec": directions, "b_enc": torch.zeros(SIZE), "b_dec": torch.zeros(WIDTH)}


@pytest.fixture(scope="module")
def result(planted, tmp_path_factory):  # noqa: F811
    path = write_dictionary(tmp_path_factory.mktemp("d"), weights())
    fit = {"shots": 4, "prompts": 20}
    chosen = {"sae": path, "select": ["yes", "no"], "top": 2, **fit}
    own = {"sae": path, "select": ["same_task", "other_task"], "top": 1, "by": "rise", **fit}
    tree = {
        "model": {"name": str(planted / "model")},
        "tasks": {
            "family": "pairs",
            "files": [str(planted / f"{task}.json") for task in ("yes", "no")],
            "include_null": False,
        },
        "prompts": {"shots": {"sweep": [0, 4]}, "queries": 20},
        "interventions": {
            "erased": {"op": "ablate", "vector": chosen},
            "to_yes": {"op": "clamp_features", "vector": {"sae": path, "features": [YES], **fit, "value": 2}},
            "added": {"op": "add", "vector": own},
        },
        "controls": ["self", {"random": {"draws": 3}}],
        "metrics": ["accuracy", "logprob"],
        "decodability": None,
        "statistics": {"bootstrap": 100},
    }  # fmt: skip
    return run_study(study_of(tree), Options(out=planted / "features"))


def accuracy(result, task, intervention, control="", shots=4):
    rows = pl.read_parquet(result / "effects.parquet").filter(
        (pl.col("intervention") == intervention) & (pl.col("control") == control) & (pl.col("task") == task)
        & (pl.col("metric") == "accuracy") & (pl.col("shots") == shots)
    )  # fmt: skip
    return rows.group_by("layer").agg(pl.col("patched").mean()).sort("layer")["patched"].to_list()


BEFORE, BEHIND = [*range(WRITES)], [*range(WRITES, LAYERS)]


def test_the_planted_features_are_chosen_where_they_are_written(result):
    table = pl.read_parquet(result / "features.parquet").filter(pl.col("intervention").str.starts_with("erased"))
    for layer in BEHIND:
        rows = table.filter(pl.col("layer") == layer, ~pl.col("vector_task").str.contains("~"))
        assert {*rows["feature"]} == {YES, NO}
        means = {row["feature"]: (row["mean_first"], row["mean_second"]) for row in rows.to_dicts()}
        assert means[YES][0] > 1 and means[YES][1] == 0 and means[NO][0] == 0 and means[NO][1] > 1
    before = (
        table.filter(pl.col("layer") < WRITES)["mean_first"] - table.filter(pl.col("layer") < WRITES)["mean_second"]
    )
    assert before.abs().max() < 0.5, "nothing tells the tasks apart before"


@pytest.mark.parametrize("task", ["yes", "no"])
def test_ablating_them_erases_the_concept_and_nothing_else_does(result, task):
    clean = [1.0] * LAYERS
    assert accuracy(result, task, "erased", "self") == clean
    found = accuracy(result, task, "erased")
    assert [found[layer] for layer in BEFORE] == [1.0] * WRITES and max(found[layer] for layer in BEHIND) < 0.2
    assert min(accuracy(result, task, "erased", "random")) > 0.9


def test_clamping_one_answers_its_task(result):
    """Without demonstrations neither task is answered; with the feature set every prompt answers yes."""
    for task, expected in (("yes", 1.0), ("no", 0.0)):
        found = accuracy(result, task, "to_yes", shots=0)
        assert [found[layer] for layer in BEHIND] == [expected] * len(BEHIND)
    assert max(accuracy(result, "yes", "to_yes", "random", shots=0)) < 0.2
    assert max(accuracy(result, "no", "to_yes", shots=4)[layer] for layer in BEHIND) == 0.0


def test_adding_the_task_s_own_feature_answers_it(result):
    for task in ("yes", "no"):
        found = accuracy(result, task, "added", shots=0)
        assert [found[layer] for layer in BEHIND] == [1.0] * len(BEHIND)


def test_an_ablation_takes_exactly_the_part_of_the_features(tmp_path):
    """The concept's dimension is emptied, of either sign; every other number of the state is what it was, to the bit,
    though the dictionary reconstructs nothing of most of them."""
    dictionary, _ = opened(write_dictionary(tmp_path, weights()), "v")
    h = torch.randn(6, WIDTH, generator=torch.Generator().manual_seed(0))
    features = some_features(dictionary, [YES, NO], torch.zeros(2))
    found = OPS.get("ablate", "op").apply(h, features, torch.ones(6, 1))
    expected = h.clone()
    expected[:, CONCEPT] = 0
    assert torch.equal(found, expected) and (h[:, CONCEPT] > 0).any() and (h[:, CONCEPT] < 0).any()
